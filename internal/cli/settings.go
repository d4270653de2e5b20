package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sbx/internal/settings"
)

func (a *app) settingsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settings",
		Short: "Show and change settings",
		Args:  exactly(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.settingsListCommand(), a.settingsGetCommand(), a.settingsSetCommand(), a.settingsUnsetCommand())
	return cmd
}

func (a *app) settingsListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List all settings with their defaults and sources",
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(a.stdout, a.settings.List())
			}
			t := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(t, "KEY\tVALUE\tDEFAULT\tSOURCE\tDESCRIPTION")
			for _, v := range a.settings.List() {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.Key, orDash(v.Value), orDash(v.Default), v.Source, v.Description)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) settingsGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "get KEY",
		Short:             "Print one setting's value",
		Args:              exactly(1),
		ValidArgsFunction: completeKey,
		RunE: func(_ *cobra.Command, args []string) error {
			v, err := a.settings.Get(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, v.Value)
			return nil
		},
	}
}

func (a *app) settingsSetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "set KEY VALUE",
		Annotations:       mends(),
		Short:             "Change a setting",
		Args:              exactly(2),
		ValidArgsFunction: completeKey,
		RunE: func(_ *cobra.Command, args []string) error {
			return settings.Set(a.settingsPath(), args[0], args[1])
		},
	}
}

func (a *app) settingsUnsetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "unset KEY",
		Annotations:       mends(),
		Short:             "Go back to a setting's default",
		Args:              exactly(1),
		ValidArgsFunction: completeKey,
		RunE: func(_ *cobra.Command, args []string) error {
			return settings.Unset(a.settingsPath(), args[0])
		},
	}
}

func completeKey(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return settings.Keys(), cobra.ShellCompDirectiveNoFileComp
}
