// Package dashboard is tests alone: the dashboard in a real Chromium, against a real server, with real clients connected to it. What a
// person would do is done with the keyboard and the pointer; what the page must never do (an error in the console, a request to
// elsewhere, a script of somebody else's) fails every test. It promises nothing to other packages.
package dashboard
