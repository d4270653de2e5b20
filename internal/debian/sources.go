package debian

import (
	"bufio"
	"context"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// HostMirror finds the Debian mirror in this machine's apt configuration.
// Third-party archives are not taken for Debian's, even where their layout is
// alike. It returns [ErrNoMirror] when there is none.
func HostMirror(ctx context.Context) (Mirror, error) {
	if err := haveApt(); err != nil {
		return Mirror{}, err
	}
	sources, err := hostSources(ctx)
	if err != nil {
		return Mirror{}, err
	}
	uri := chooseMirror(sources, hostOrigins(ctx))
	if uri == "" {
		return Mirror{}, ErrNoMirror
	}
	return Mirror{URI: uri}.check()
}

// source is one archive and suite that apt is told to use.
type source struct {
	uri, suite, signedBy string
	components           []string
}

// origin is what an archive's signed Release file says of itself.
type origin struct{ origin, label string }

// chooseMirror returns the URI of the first source that is Debian's main
// archive, or "". What the archive says of itself, where it is known, decides;
// else the form of the entry does.
func chooseMirror(sources []source, origins map[string]origin) string {
	for _, s := range sources {
		o, known := origins[trimSlash(s.uri)]
		if known && o == (origin{"Debian", "Debian"}) || !known && looksDebian(s) {
			return trimSlash(s.uri)
		}
	}
	return ""
}

// suites are the names of Debian's releases that an apt of today can meet.
var suites = map[string]bool{
	"oldoldstable": true, "oldstable": true, "stable": true, "testing": true, "unstable": true,
	"buster": true, "bullseye": true, "bookworm": true, "trixie": true, "forky": true, "duke": true, "sid": true,
}

// looksDebian judges an entry by its form: many third-party archives copy the
// suite and the path, but not all of suite, path, component and keys.
func looksDebian(s source) bool {
	suite, _, _ := strings.Cut(s.suite, "-")
	if !suites[suite] || strings.HasSuffix(s.suite, "-security") || strings.Contains(s.suite, "/") {
		return false
	}
	main := false
	for _, c := range s.components {
		main = main || c == "main"
	}
	if !main {
		return false
	}
	if s.signedBy != "" {
		return strings.HasPrefix(path.Base(s.signedBy), "debian-archive-")
	}
	return path.Base(trimSlash(s.uri)) == "debian"
}

func trimSlash(uri string) string { return strings.TrimRight(uri, "/") }

// hostSources reads the files that apt would read, in apt's order.
func hostSources(ctx context.Context) ([]source, error) {
	out, err := hostApt(ctx, "apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d")
	if err != nil {
		return nil, err
	}
	vars := shellVars(out)
	files := []string{}
	if vars["LIST"] != "" {
		files = append(files, vars["LIST"])
	}
	if vars["PARTS"] != "" {
		entries, _ := os.ReadDir(vars["PARTS"]) // sorted by name, as apt does
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".list" || ext == ".sources" {
				files = append(files, filepath.Join(vars["PARTS"], e.Name()))
			}
		}
	}
	var all []source
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a source that this user can't read is one that isn't there
		}
		if filepath.Ext(f) == ".sources" {
			all = append(all, parseDeb822(string(data))...)
		} else {
			all = append(all, parseList(string(data))...)
		}
	}
	return expandLists(all), nil
}

// expandLists replaces apt's mirror+file: URIs, a file with a list of
// mirrors, by that list, as the images of cloud providers use them.
func expandLists(in []source) []source {
	var out []source
	for _, s := range in {
		rest, isList := strings.CutPrefix(s.uri, "mirror+file:")
		if !isList {
			out = append(out, s)
			continue
		}
		data, err := os.ReadFile("/" + strings.TrimLeft(rest, "/"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
				s.uri = f[0]
				out = append(out, s)
			}
		}
	}
	return out
}

// parseList reads the one-line format of sources.list(5).
func parseList(text string) []source {
	var out []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' && rest[0] != '[' {
			continue
		}
		rest = strings.TrimSpace(rest)
		s := source{}
		if opts, after, ok := cutOptions(rest); ok {
			rest = after
			for _, o := range strings.Fields(opts) {
				if v, ok := strings.CutPrefix(strings.ToLower(o), "signed-by="); ok {
					s.signedBy = o[len(o)-len(v):]
				}
			}
		}
		f := strings.Fields(rest)
		if len(f) < 2 {
			continue
		}
		s.uri, s.suite, s.components = f[0], f[1], f[2:]
		out = append(out, s)
	}
	return out
}

func cutOptions(s string) (options, rest string, ok bool) {
	inner, ok := strings.CutPrefix(s, "[")
	if !ok {
		return "", s, false
	}
	return strings.Cut(inner, "]")
}

// parseDeb822 reads the stanzas of a .sources file.
func parseDeb822(text string) []source {
	var out []source
	for _, st := range stanzas(text) {
		if strings.EqualFold(st["enabled"], "no") || !hasWord(st["types"], "deb") {
			continue
		}
		for _, uri := range strings.Fields(st["uris"]) {
			for _, suite := range strings.Fields(st["suites"]) {
				out = append(out, source{
					uri: uri, suite: suite, signedBy: strings.TrimSpace(st["signed-by"]),
					components: strings.Fields(st["components"]),
				})
			}
		}
	}
	return out
}

func hasWord(s, word string) bool {
	for _, f := range strings.Fields(s) {
		if f == word {
			return true
		}
	}
	return false
}

// stanzas splits deb822 text into its paragraphs; field names are in lower
// case, continuation lines are joined by newlines, comments are dropped.
func stanzas(text string) []map[string]string {
	var out []map[string]string
	cur, last := map[string]string{}, ""
	flush := func() {
		if len(cur) > 0 {
			out = append(out, cur)
		}
		cur, last = map[string]string{}, ""
	}
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				cur[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			if k, v, ok := strings.Cut(line, ":"); ok {
				last = strings.ToLower(strings.TrimSpace(k))
				cur[last] = strings.TrimSpace(v)
			}
		}
	}
	flush()
	return out
}

// hostOrigins asks apt what the Release files it has already fetched say.
// After the lists were deleted, as in many container images, it knows nothing.
func hostOrigins(ctx context.Context) map[string]origin {
	out, err := hostApt(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)", "Created-By: Packages")
	if err != nil {
		return nil
	}
	return parseOrigins(out)
}

func parseOrigins(out string) map[string]origin {
	origins := map[string]origin{}
	lines := strings.Split(out, "\n")
	sort.Strings(lines)
	for _, line := range lines {
		f := strings.Split(line, "\t")
		// A field that the Release file lacks stays as "$(NAME)".
		if len(f) != 3 || f[0] == "" || strings.HasPrefix(f[1], "$(") {
			continue
		}
		uri, o := trimSlash(f[0]), origin{f[1], f[2]}
		// One URI serves several suites; one that is Debian's main archive
		// says what the URI is.
		if origins[uri] != (origin{"Debian", "Debian"}) {
			origins[uri] = o
		}
	}
	return origins
}

// shellVars reads what `apt-config shell` prints: NAME='value' lines.
func shellVars(out string) map[string]string {
	vars := map[string]string{}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			vars[k] = strings.ReplaceAll(strings.Trim(v, "'"), `'\''`, "'")
		}
	}
	return vars
}
