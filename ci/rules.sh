#!/usr/bin/env bash
# Checks the alert rules of starlingprom with promtool, has it run their tests, and checks the questions of the dashboard. That all of them
# name metrics that are there is a test of the package. Without promtool it says so and passes; .ci/run brings one along.
set -euo pipefail
cd "$(dirname "$0")/../starlingprom"

if ! command -v promtool >/dev/null; then
  echo "not checked: the alert rules: there is no promtool"
  exit
fi
promtool check rules alerts.yml
promtool test rules alerts_test.yml

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A string of JSON is one of YAML too. Grafana puts in what begins with $.
sed -nE 's/^ *"expr": (".*"),$/      - {record: question, expr: \1}/p' dashboard.json |
  sed 's/\$__rate_interval/5m/g' | awk '{ sub("question", "question:" NR) } 1' >"$scratch/questions"
{
  printf 'groups:\n  - name: dashboard\n    rules:\n'
  cat "$scratch/questions"
} >"$scratch/dashboard.yml"
[ "$(wc -l <"$scratch/questions")" = "$(grep -c '"expr"' dashboard.json)" ] || {
  echo "ci/rules.sh: not every question of dashboard.json was found" >&2
  exit 1
}
promtool check rules "$scratch/dashboard.yml"
