package main

import (
	"fmt"
	goio "io"
	"strings"

	"github.com/alecthomas/kong"
)

// completeArg is the first argument with which the shells ask for the words that may come next.
const completeArg = "__complete"

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Your shell: ${enum}."`
}

// Help says what to do with the script.
func (completionCmd) Help() string {
	return `The script asks this program for what may come next. To have it in every shell:

  bash  source <(rollcall completion bash)       in ~/.bashrc
  zsh   source <(rollcall completion zsh)        in ~/.zshrc, after compinit
  fish  rollcall completion fish | source        in ~/.config/fish/config.fish`
}

// Run prints the shell's script.
func (c completionCmd) Run(io *stdio) error {
	_, err := fmt.Fprint(io.out, completionScripts[c.Shell])
	return err
}

// completionScripts pass the words up to the cursor, the last of which may be incomplete or empty, and take one candidate a line.
// With none the shell offers files.
var completionScripts = map[string]string{
	"bash": `_rollcall() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("${COMP_WORDS[0]}" ` + completeArg + ` bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _rollcall rollcall
`,
	"zsh": `#compdef rollcall
_rollcall() {
    local out
    local -a lines
    out=$("${words[1]}" ` + completeArg + ` zsh "${(@)words[2,CURRENT]}" 2>/dev/null)
    if [[ -z $out ]]; then
        _files
        return
    fi
    lines=("${(@f)out}")
    _describe rollcall lines
}
if [[ $funcstack[1] = _rollcall ]]; then
    _rollcall "$@"
else
    compdef _rollcall rollcall
fi
`,
	"fish": `function __rollcall_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines ($words[1] ` + completeArg + ` fish $words[2..] 2>/dev/null)
    if test (count $lines) -eq 0
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $lines
    end
end
complete -c rollcall -f -a '(__rollcall_complete)'
`,
}

// candidate is a word that may come next.
type candidate struct{ word, help string }

// printCandidates answers a shell: args are its name and the words up to the cursor.
func printCandidates(w goio.Writer, root *kong.Node, args []string) {
	if len(args) < 2 {
		return
	}
	shell, words := args[0], args[1:]
	if shell == "bash" {
		words = rejoined(words)
	}
	before, word := words[:len(words)-1], words[len(words)-1]
	for _, c := range candidates(root, before, word) {
		switch shell {
		case "zsh":
			fmt.Fprintf(w, "%s:%s\n", strings.ReplaceAll(c.word, ":", `\:`), c.help)
		case "fish":
			fmt.Fprintf(w, "%s\t%s\n", c.word, c.help)
		default:
			// Bash completes what follows the last = alone.
			fmt.Fprintln(w, c.word[strings.LastIndexByte(c.word, '=')+1:])
		}
	}
}

// rejoined puts together what bash took apart at = and : (COMP_WORDBREAKS).
func rejoined(words []string) []string {
	var out []string
	glue := false
	for _, word := range words {
		breaks := word != "" && strings.Trim(word, "=:") == ""
		if (breaks || glue) && len(out) > 0 {
			out[len(out)-1] += word
		} else {
			out = append(out, word)
		}
		glue = breaks
	}
	return out
}

// candidates returns the words that begin with word and may follow the words before it, in the order of --help.
func candidates(root *kong.Node, before []string, word string) []candidate {
	node, args := root, 0
	var awaits *kong.Flag // its value is the next word
	flags := true
	for _, w := range before {
		name, _, assigned := strings.Cut(w, "=")
		switch {
		case awaits != nil:
			awaits = nil
		case flags && w == "--":
			flags = false
		case flags && len(w) > 1 && w[0] == '-':
			if f := flagWritten(node, name); f != nil && !f.IsBool() && !f.IsCounter() && !assigned {
				awaits = f
			}
		default:
			if child := childOf(node, w); child != nil {
				node = child
			} else {
				args++
			}
		}
	}
	var all []candidate
	name, value, assigned := strings.Cut(word, "=")
	switch {
	case awaits != nil:
		all = values(awaits.Value, "", word)
	case flags && strings.HasPrefix(word, "-") && assigned:
		if f := flagWritten(node, name); f != nil {
			all = values(f.Value, name+"=", value)
		}
	case flags && strings.HasPrefix(word, "-"):
		all = flagWords(node)
	case args < len(node.Positional):
		all = values(node.Positional[args], "", word)
	default:
		for _, child := range node.Children {
			if args == 0 && !child.Hidden {
				all = append(all, candidate{child.Name, brief(child.Help)})
			}
		}
	}
	var fitting []candidate
	for _, c := range all {
		if strings.HasPrefix(c.word, word) {
			fitting = append(fitting, c)
		}
	}
	return fitting
}

// values returns what a flag or argument accepts, after prefix. In a list the last item is completed.
func values(v *kong.Value, prefix, written string) (all []candidate) {
	if v.Enum == "" {
		return nil
	}
	given := ""
	if v.IsSlice() {
		given = written[:strings.LastIndexByte(written, ',')+1]
	}
	for _, e := range v.EnumSlice() {
		if !strings.Contains(","+given, ","+e+",") {
			all = append(all, candidate{word: prefix + given + e})
		}
	}
	return all
}

func flagWords(node *kong.Node) (all []candidate) {
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			all = append(all, candidate{"--" + f.Name, brief(f.Help)})
			if f.Tag != nil && f.Tag.Negatable != "" {
				all = append(all, candidate{"--no-" + f.Name, brief(f.Help)})
			}
		}
	}
	return all
}

// flagWritten returns the flag that is written so, in full or as one letter.
func flagWritten(node *kong.Node, written string) *kong.Flag {
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if written == "--"+f.Name || f.Short != 0 && written == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// brief returns the first clause of a help text.
func brief(help string) string {
	if i := strings.IndexAny(help, ".;:("); i > 0 {
		help = help[:i]
	}
	return strings.TrimSpace(help)
}
