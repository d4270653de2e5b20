// Package reap starts child processes in a process that must also collect the
// orphans of others, as PID 1 must.
//
// A [Reaper] is the only one that waits: it owns wait4(-1), hands the status
// of each child that it started to that child's [Process], and forgets the
// rest. Nothing else in the program may wait for children (os/exec, for one,
// would lose statuses to the Reaper and the other way round).
package reap
