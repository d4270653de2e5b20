package nearest

import "testing"

func TestName(t *testing.T) {
	names := []string{"shell-web", "claude", "codex", "vm.accel", "vm.memory", "web"}
	for _, test := range []struct{ word, want string }{
		{"claud", "claude"},
		{"caldue", "claude"},
		{"CLAUDE", "claude"},
		{"codxe", "codex"},
		{"vm.acel", "vm.accel"},
		{"wbe", "web"},
		{"shell", "shell-web"},
		{"web-2", "web"},
		{"zebra", ""},
		{"x", ""},
		{"", ""},
		{"кодекс", ""},
	} {
		if got := Name(test.word, names); got != test.want {
			t.Errorf("Name(%q) = %q, want %q", test.word, got, test.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	if got, want := Suggest("wbe", []string{"web"}), `; did you mean "web"?`; got != want {
		t.Errorf("Suggest = %q, want %q", got, want)
	}
	if got := Suggest("other", nil); got != "" {
		t.Errorf("Suggest without names = %q", got)
	}
}
