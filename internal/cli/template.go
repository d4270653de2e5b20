package cli

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sbx/internal/progress"
	"sbx/internal/template"
)

func (a *app) templateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Show and remove templates, the disks that sandboxes start from",
		Args:  exactly(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.templateLsCommand(), a.templateRmCommand())
	return cmd
}

func (a *app) templateLsCommand() *cobra.Command {
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List templates",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			list, err := template.List(a.dirs.Cache)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return printJSON(a.stdout, list)
			case quiet:
				for _, t := range list {
					fmt.Fprintln(a.stdout, t.Name)
				}
				return nil
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "TEMPLATE\tID\tSIZE\tCREATED")
			for _, t := range list {
				fmt.Fprintf(w, "%s\t%.12s\t%s\t%s\n", t.Name, t.ID, progress.Bytes(t.Size), t.Created.Local().Format(time.DateTime))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only names")
	return cmd
}

func (a *app) templateRmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rm [-f] NAME...",
		Short:             "Remove templates that no sandbox uses",
		Args:              atLeast(1),
		ValidArgsFunction: a.completeTemplates,
		RunE: func(cmd *cobra.Command, names []string) error {
			if !force {
				if err := a.confirm(cmd.Context(), "Remove "+strings.Join(names, ", ")+"?"); err != nil {
					return err
				}
			}
			return a.eachName(names, a.removeTemplate)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "don't ask")
	return cmd
}

func (a *app) removeTemplate(name string) error {
	m := a.manager()
	var listErr error
	err := template.Remove(a.dirs.Cache, name, func(id string) []string {
		users, err := m.UsersOf(id)
		if listErr = err; err != nil {
			return []string{"(unknown)"} // can't tell, so don't remove
		}
		return users
	})
	if err := errors.Join(listErr, err); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, name)
	return nil
}

func (a *app) completeTemplates(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if a.prepare(cmd) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := template.List(a.dirs.Cache)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
