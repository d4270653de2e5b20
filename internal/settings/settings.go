// Package settings is the user's settings.yaml: what can be set, how a value
// is checked, and how the file is read and changed.
//
// Start from [Load], which reads and checks everything once, and from the
// accessors of [Settings]. [Set] and [Unset] change one key and leave the rest
// of the file, comments and layout included, as the user wrote it.
//
// A value comes from the environment (SBX_VM_ACCEL for vm.accel), else from
// the file, else it is the default. An unknown key or a bad value is an error
// that names the file and the line, never a silent default.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"sbx/internal/nearest"
)

// Sources of a value.
const (
	FromDefault     = "default"
	FromFile        = "file"
	FromEnvironment = "environment"
)

// Value is a setting as it is in force. The JSON names are stable.
type Value struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	Default     string `json:"default"`
	Source      string `json:"source"`
	Description string `json:"description"`
}

// Settings are the checked values of all keys. They don't change after Load.
type Settings struct {
	values map[string]Value
}

// Load reads the settings file at path. A file that doesn't exist is an empty
// one.
func Load(path string) (*Settings, error) {
	return load(path, os.LookupEnv)
}

func load(path string, lookup func(string) (string, bool)) (*Settings, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the settings: %w", err)
	}
	doc, err := parse(path, data)
	if err != nil {
		return nil, err
	}
	if err := doc.check(); err != nil {
		return nil, err
	}
	s := &Settings{values: make(map[string]Value)}
	for _, d := range definitions {
		v := Value{Key: d.Key, Value: d.Default, Default: d.Default, Source: FromDefault, Description: d.Description}
		if e, ok := doc.entries[d.Key]; ok {
			v.Value, v.Source = e.value, FromFile
		}
		if env, ok := lookup(Variable(d.Key)); ok && env != "" {
			if err := d.check(env); err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", Variable(d.Key), err)
			}
			v.Value, v.Source = env, FromEnvironment
		}
		s.values[d.Key] = v
	}
	return s, nil
}

// Defaults are the settings of one who has set nothing.
func Defaults() *Settings {
	s, err := load(os.DevNull, func(string) (string, bool) { return "", false })
	if err != nil {
		panic(err) // an empty file is a good one
	}
	return s
}

// Variable is the environment variable that overrides key.
func Variable(key string) string {
	return "SBX_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// Get returns the setting key, or an error that suggests the nearest key.
func (s *Settings) Get(key string) (Value, error) {
	if _, err := lookup(key); err != nil {
		return Value{}, err
	}
	return s.values[key], nil
}

// List returns all settings in the order of their definition.
func (s *Settings) List() []Value {
	var list []Value
	for _, d := range definitions {
		list = append(list, s.values[d.Key])
	}
	return list
}

// Keys lists all keys, for completion.
func Keys() []string {
	var keys []string
	for _, d := range definitions {
		keys = append(keys, d.Key)
	}
	return keys
}

// lookup finds the definition of key.
func lookup(key string) (Definition, error) {
	i := slices.IndexFunc(definitions, func(d Definition) bool { return d.Key == key })
	if i < 0 {
		return Definition{}, fmt.Errorf("unknown setting %q%s; 'sbx settings list' shows all", key, nearest.Suggest(key, Keys()))
	}
	return definitions[i], nil
}
