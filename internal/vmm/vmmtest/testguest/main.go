// Testguest is PID 1 of the guests in which package vmmtest tries a driver.
//
// It loads the modules in /modules, prints the banner on the console, and then
// takes orders from the control port, one a line; see orders.go. It never
// closes the port and ignores that the host comes and goes.
package main
