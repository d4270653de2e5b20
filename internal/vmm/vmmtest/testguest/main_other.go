//go:build !linux

package main

func main() { panic("testguest runs as PID 1 of a Linux guest") }
