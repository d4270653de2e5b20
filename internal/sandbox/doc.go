// Package sandbox knows what a sandbox is: its record, its name and its files.
//
// Start from [Open], which gives the [Store] of one user's sandboxes. A sandbox
// is a directory with a sandbox.json, a disk and a lock file; whoever runs it
// holds the lock, so a free lock means that it is stopped, whatever happened to
// the process. Creation and removal are one rename each: a crash at any moment
// leaves a whole sandbox or none, and [Store.Sweep] removes what it left over.
package sandbox
