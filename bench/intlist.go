package main

import (
	"fmt"
	"strconv"
	"strings"
)

// intList is a flag of numbers separated by commas.
type intList []int

func (l *intList) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*l), " ", ","), "[]&")
}

func (l *intList) Set(s string) error {
	*l = nil
	for field := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		*l = append(*l, n)
	}
	return nil
}
