package control

import (
	"os"
	"syscall"
)

// signals are the names that travel and their numbers in the guest, which is
// Linux: those of RFC 4254 section 6.10, and the rest of signal(7) without its
// "SIG". The host's numbers may differ.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7,
	"FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13,
	"ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19,
	"TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25,
	"VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30, "SYS": 31,
}

// hostSignals are the signals that a user sends to a program through sbx.
var hostSignals = map[os.Signal]string{
	syscall.SIGHUP: "HUP", syscall.SIGINT: "INT", syscall.SIGQUIT: "QUIT",
	syscall.SIGABRT: "ABRT", syscall.SIGKILL: "KILL", syscall.SIGUSR1: "USR1",
	syscall.SIGUSR2: "USR2", syscall.SIGALRM: "ALRM", syscall.SIGTERM: "TERM",
	syscall.SIGCONT: "CONT", syscall.SIGTSTP: "TSTP", syscall.SIGTTIN: "TTIN",
	syscall.SIGTTOU: "TTOU",
}

// SignalName returns the name under which a signal of the host's travels, ""
// for one that is not forwarded.
func SignalName(s os.Signal) string { return hostSignals[s] }

// SignalNumber returns the Linux number of a signal that travels as name, 0 if
// there is no such signal.
func SignalNumber(name string) int { return signals[name] }

// SignalOf returns the name of the Linux signal n, "" if it has none, as the
// real-time signals. Such an end is reported as exit code 128+n.
func SignalOf(n int) string {
	for name, number := range signals {
		if number == n {
			return name
		}
	}
	return ""
}
