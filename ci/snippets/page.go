package main

import "strings"

// A page is one file of Markdown, as far as it is looked at here.
type page struct {
	name   string // its path
	blocks []block
	hidden []block // Go code in comments, which no reader sees
	prose  []line  // what is in no block and no comment
}

// A block is code, in a fence or in a comment.
type block struct {
	lang string
	line int // of its first line, from 1
	text string
}

type line struct {
	number int
	text   string
}

// parse splits a page. A comment that begins with "<!-- go" has declarations in it that the page's code needs and its reader does not.
func parse(name, text string) *page {
	p := &page{name: name}
	var open *block // what is being read
	var end string  // what ends it
	for i, l := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(l)
		switch {
		case open != nil && trimmed == end:
			if end == commentEnd {
				p.hidden = append(p.hidden, *open)
			} else {
				p.blocks = append(p.blocks, *open)
			}
			open = nil
		case open != nil:
			open.text += l + "\n"
		case strings.HasPrefix(trimmed, fence):
			open, end = &block{lang: strings.TrimPrefix(trimmed, fence), line: i + 2}, fence
		case trimmed == "<!-- go":
			open, end = &block{lang: "go", line: i + 2}, commentEnd
		default:
			p.prose = append(p.prose, line{i + 1, l})
		}
	}
	return p
}

const fence, commentEnd = "```", "-->"

// goBlocks counts the blocks that a reader sees as Go.
func (p *page) goBlocks() (n int) {
	for _, b := range p.blocks {
		if b.lang == "go" {
			n++
		}
	}
	return n
}
