package control

import (
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// Names of the requests on a session channel that RFC 4254 defines.
const (
	RequestPty          = "pty-req"
	RequestWindowChange = "window-change"
	RequestSignal       = "signal"
	RequestExitStatus   = "exit-status"
	RequestExitSignal   = "exit-signal"
)

// PtyRequest is the payload of pty-req, RFC 4254 section 6.2; as the others
// below it is read and written with ssh.Unmarshal and ssh.Marshal.
type PtyRequest struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

// WindowChange is the payload of window-change, section 6.7.
type WindowChange struct{ Columns, Rows, Width, Height uint32 }

// SignalRequest is the payload of signal, section 6.9: a name of [SignalName].
type SignalRequest struct{ Signal string }

// ExitStatus is the payload of exit-status, section 6.10.
type ExitStatus struct{ Status uint32 }

// ExitSignal is the payload of exit-signal, section 6.10.
type ExitSignal struct {
	Signal            string
	CoreDumped        bool
	Message, Language string
}

// maxReason bounds the reason of a refusal.
const maxReason = 4 << 10

// Decode reads the JSON payload of a request.
func Decode(payload []byte, v any) error {
	if len(payload) > MaxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", len(payload), MaxMessage)
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("malformed message: %w", err)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("message of %d bytes is larger than %d", len(b), MaxMessage)
	}
	return b, nil
}

// Reply answers a global request: with err's text if there is one, else with v
// as JSON, or with nothing if v is nil.
func Reply(r *ssh.Request, v any, err error) error {
	var payload []byte
	if err == nil && v != nil {
		payload, err = encode(v)
	}
	if err != nil {
		reason := err.Error()
		return r.Reply(false, []byte(reason[:min(len(reason), maxReason)]))
	}
	return r.Reply(true, payload)
}

// Refuse answers a spawn or attach that can't be done. A reply on a channel has
// no room for a reason, so it goes before it, on the channel's standard error.
// The channel is closed.
func Refuse(ch ssh.Channel, r *ssh.Request, reason error) error {
	text := reason.Error()
	if _, err := ch.Stderr().Write([]byte(text[:min(len(text), maxReason)])); err != nil {
		return err
	}
	if err := r.Reply(false, nil); err != nil {
		return err
	}
	return ch.Close()
}

// SendExit reports how a program ended, after all of its output was written,
// and closes the channel.
func SendExit(ch ssh.Channel, e Exit) error {
	name, payload := RequestExitStatus, ssh.Marshal(ExitStatus{Status: uint32(e.Code)})
	if e.Signal != "" {
		name, payload = RequestExitSignal, ssh.Marshal(ExitSignal{Signal: e.Signal})
	}
	if _, err := ch.SendRequest(name, false, payload); err != nil {
		return err
	}
	return ch.Close()
}
