// Package vmmtest is the conformance suite of package vmm: what every driver
// must do, tried with real guests.
//
// A driver's test calls [NewFixture], which skips it unless the environment
// says where a kernel is, and then [Run]. The guest's only program is
// ./testguest, which obeys orders that the suite sends over the control port.
//
// Two tests run a part of themselves in a process of its own, by running the
// test binary again with only that test: one to kill the process that started
// a machine, one to have a file system of its own that is full.
//
// No test waits for a fixed time: what must happen is waited for until the
// test binary's own -timeout.
package vmmtest
