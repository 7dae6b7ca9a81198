// Package starlingstatus is a page on which people see what a member of a cluster sees and does, and the same as JSON for programs:
//
//	http.Handle("/status/", http.StripPrefix("/status", starlingstatus.Handler(c, nil)))
//
// It shows the members, the channels, the maps that it is given, what was dropped and lost, the keys, and whether the member is ready and
// what it waits for. A button starts a probe: an empty message that every member has to confirm. Nothing else on it changes anything.
//
// # Paths
//
//   - GET (its root): the page; with "Accept: application/json" a [Status].
//   - GET events: Server-Sent Events: "status", a [Status], at once; then, at most once a second and only if something has changed, "change",
//     a [Change].
//   - POST probe: starts a probe and answers with the page of its result; with "Accept: application/json" with a [Probe].
//   - GET fragments, style.css, page.js: what the page itself needs.
//
// All links are relative, so it works under any path that ends in a slash; a request without that slash is redirected to it. The page loads
// nothing from elsewhere, and its Content-Security-Policy allows it nothing else.
//
// # Who may see it
//
// Everybody who reaches the handler sees names, addresses and metadata of members, and may probe. Put it on a listener of its own, or behind
// what authenticates people. What a browser sends from another site's page is refused; a probe is refused while another one runs, and
// for two seconds after.
//
// # What it does not show
//
// A member knows its own round trips, queues and drops, and not those of others: open the page of another member for that. The members
// are drawn in a circle by their names: the order in which messages spread is not told by package starling. A probe's round trips are those of
// a message to each member alone, for Confirm tells the time of the last member only.
package starlingstatus
