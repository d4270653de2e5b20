// Command sbx runs AI coding agents in virtual machines of their own.
package main

import (
	"os"

	"sbx/internal/cli"
)

func main() { os.Exit(cli.Main()) }
