//go:build linux

package session

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sbx/internal/control"
)

// ptyRequest is what a session wants of its terminal.
type ptyRequest struct {
	term          string
	width, height int
	modes         []byte
}

// maxSize bounds a terminal's width and height; what is larger is cut.
const maxSize = 1000

func parsePty(payload []byte) (*ptyRequest, error) {
	var m control.PtyRequest
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	if len(m.Term) > 256 || strings.ContainsAny(m.Term, "\x00=/") {
		return nil, fmt.Errorf("no terminal has the name %.80q", m.Term)
	}
	w, h := bound(m.Columns, m.Rows)
	return &ptyRequest{m.Term, w, h, []byte(m.Modes)}, nil
}

func parseWindow(payload []byte) (w, h int, err error) {
	var m control.WindowChange
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return 0, 0, err
	}
	w, h = bound(m.Columns, m.Rows)
	return w, h, nil
}

// bound replaces a size of zero, which RFC 4254 says to ignore, by the usual.
func bound(width, height uint32) (w, h int) {
	if width == 0 || height == 0 {
		return 80, 24
	}
	return int(min(width, maxSize)), int(min(height, maxSize))
}

// openPty opens a pseudo terminal that belongs to uid.
func openPty(p ptyRequest, uid int) (master, tty *os.File, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open a terminal: %w", err)
		}
	}()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, nil, err
	}
	tty, err = peer(fd)
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	if err := prepare(tty, p, uid); err != nil {
		master.Close()
		tty.Close()
		return nil, nil, err
	}
	return master, tty, nil
}

// peer opens the other end of a master. TIOCGPTPEER needs no path, so it does
// not matter which devpts is mounted where.
func peer(master int) (*os.File, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, "tty"), nil
}

func prepare(tty *os.File, p ptyRequest, uid int) error {
	if os.Geteuid() == 0 {
		if err := tty.Chown(uid, -1); err != nil {
			return err
		}
		if err := tty.Chmod(0o620); err != nil { // group tty, for write(1)
			return err
		}
	}
	if err := applyModes(tty, p.modes); err != nil {
		return err
	}
	return unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Col: uint16(p.width), Row: uint16(p.height)})
}

// resizePty tells the terminal its size; programs on it get SIGWINCH.
func resizePty(master *os.File, w, h int) error {
	return onFD(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(w), Row: uint16(h)})
	})
}

// onFD runs f on the file's descriptor without making it blocking, as Fd
// would.
func onFD(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// applyModes sets the encoded terminal modes of RFC 4254, section 8. Unknown
// opcodes are ignored, as it demands.
func applyModes(tty *os.File, modes []byte) error {
	fd := int(tty.Fd())
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	// The locale is UTF-8 throughout the guest: backspace erases whole runes.
	t.Iflag |= unix.IUTF8
	for len(modes) >= 5 && modes[0] != 0 && modes[0] < 160 {
		setMode(t, modes[0], binary.BigEndian.Uint32(modes[1:]))
		modes = modes[5:]
	}
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// controlChars are the opcodes 1 to 18 as indexes of c_cc; -1: not on Linux.
var controlChars = [...]int{
	1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF,
	6: unix.VEOL, 7: unix.VEOL2, 8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP,
	11: -1, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT, 15: -1,
	16: unix.VSWTC, 17: -1, 18: unix.VDISCARD,
}

var (
	inputFlags = map[byte]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR,
		35: unix.IGNCR, 36: unix.ICRNL, 37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY,
		40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	}
	localFlags = map[byte]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE,
		55: unix.ECHOK, 56: unix.ECHONL, 57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN,
		60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
	}
	outputFlags = map[byte]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	}
)

func setMode(t *unix.Termios, opcode byte, v uint32) {
	if int(opcode) < len(controlChars) {
		if i := controlChars[opcode]; i >= 0 {
			if v == 255 { // "_POSIX_VDISABLE", which is 0 here
				v = 0
			}
			t.Cc[i] = uint8(v)
		}
		return
	}
	flag := func(word *uint32, bit uint32) {
		if *word &^= bit; v != 0 {
			*word |= bit
		}
	}
	flag(&t.Iflag, inputFlags[opcode])
	flag(&t.Lflag, localFlags[opcode])
	flag(&t.Oflag, outputFlags[opcode])
}
