package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"
)

// configFile gives flags their values from YAML: a flat map of flag names. A value on the command line or in the environment
// wins. One file may serve several commands, so a key is known when any command has a flag of that name.
type configFile struct{ values map[string]*yaml.Node }

// loadConfig is a kong.ConfigurationLoader.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, err
	}
	var documents []yaml.Node
	if err := yaml.Load(data, &documents, yaml.WithAllDocuments()); err != nil {
		return nil, fmt.Errorf("the config file is not YAML: %w", err)
	}
	c := &configFile{map[string]*yaml.Node{}}
	switch {
	case len(documents) == 0:
		return c, nil
	case len(documents) > 1:
		return nil, errors.New("the config file has several YAML documents")
	}
	root := documents[0].Content[0]
	if root.Kind != yaml.MappingNode && root.ShortTag() != "!!null" {
		return nil, fmt.Errorf("the config file is not a YAML map of flags (line %d)", root.Line)
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := root.Content[i]
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("the config file has a key that is not the name of a flag (line %d)", key.Line)
		}
		if c.values[key.Value] != nil {
			return nil, fmt.Errorf("the config file has the key %q twice (line %d)", key.Value, key.Line)
		}
		c.values[key.Value] = followed(root.Content[i+1])
	}
	return c, nil
}

// followed returns what an alias stands for.
func followed(v *yaml.Node) *yaml.Node {
	if v.Kind == yaml.AliasNode {
		return v.Alias
	}
	return v
}

// Validate refuses keys that are no flag's name.
func (c *configFile) Validate(app *kong.Application) error {
	known := map[string]bool{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok && f.Name != "help" && f.Name != "config" {
			known[f.Name] = true
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	var unknown []string
	for key := range c.values {
		if !known[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("the config file has the unknown key %q: keys are the names of flags, such as ops-listen", unknown[0])
	}
	return nil
}

// Resolve returns the flag's value from the file; nil when the file has none, or the environment has.
func (c *configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, env := range flag.Envs {
		if _, ok := os.LookupEnv(env); ok {
			return nil, nil
		}
	}
	v := c.values[flag.Name]
	if v == nil || v.ShortTag() == "!!null" {
		return nil, nil
	}
	if v.Kind != yaml.SequenceNode {
		return scalarText(v)
	}
	if !flag.IsSlice() {
		return nil, errors.New("the config file must give it a single value")
	}
	words := make([]string, len(v.Content))
	for i, item := range v.Content {
		word, err := scalarText(followed(item))
		if err != nil {
			return nil, err
		}
		words[i] = word
	}
	return strings.Join(words, ","), nil
}

// scalarText returns a value as it is written, which flags read as they do on the command line.
func scalarText(v *yaml.Node) (string, error) {
	if v.Kind != yaml.ScalarNode || v.ShortTag() == "!!null" {
		return "", errors.New("the config file must give it a single value or a list of them")
	}
	return v.Value, nil
}
