//! What `--help` says below the options of each command: examples, and what the exit code means.

pub(super) const TOP: &str = "\
Examples:
  previewgate demo --once
  previewgate check --config /etc/previewgate/previewgate.toml
  previewgate run --config /etc/previewgate/previewgate.toml

`previewgate help COMMAND` has examples and exit codes of each command.
Manual: docs/operating.md; every key: config/previewgate.toml.";

pub(super) const RUN: &str = "\
Examples:
  previewgate run --config /etc/previewgate/previewgate.toml

Signals:
  TERM, INT  stop: report not ready, finish open requests, end; a second one cuts open connections at once
  HUP        read the configuration again; a bad one changes nothing
  USR1, ...  ignored: there is no log file to reopen

Exit codes:
  0   stopped as asked
  1   an address cannot be bound, or another failure
  2   wrong usage
  78  the configuration is refused";

pub(super) const CHECK: &str = "\
Examples:
  previewgate check --config previewgate.toml
  previewgate check --config previewgate.toml --skip-files

Exit codes:
  0   the configuration is valid
  1   the result cannot be written, or another failure
  2   wrong usage
  78  the configuration is refused; every problem is listed";

pub(super) const DEMO: &str = "\
Examples:
  previewgate demo
  previewgate demo --once

Exit codes:
  0  every step ended as expected
  1  a step ended differently, or the demo cannot start
  2  wrong usage";

pub(super) const SIMULATE: &str = "\
Examples:
  previewgate simulate --plain --address 127.0.0.1:8000
  previewgate simulate --ca-out ca.pem --poll-wait 2s
  previewgate simulate --plain --address 127.0.0.1:8000 --campaign campaign.toml

Exit codes:
  0   ended by a signal
  1   the address cannot be bound, or another failure
  2   wrong usage
  78  the campaign is refused; every mistake is listed";

pub(super) const EXPLAIN: &str = "\
Examples:
  previewgate explain --events events.jsonl --request callout.http
  previewgate explain --events events.jsonl --request callout.json --agent 1001

Exit codes:
  0   explained (the decision itself can be a refusal)
  1   a file cannot be read, or another failure
  2   wrong usage, or the agent is not named anywhere
  78  the configuration is refused";

pub(super) const AUDIT: &str = "\
Examples:
  previewgate audit keygen --signing-key audit.key
  previewgate audit verify /var/lib/previewgate/audit --public-key audit.key.pub
  previewgate audit show /var/lib/previewgate/audit --call CALL_ID
  previewgate audit report /var/lib/previewgate/audit --day 2026-11-25 --public-key audit.key.pub --format html > day.html

Exit codes:
  0  done; `verify`: proved
  1  a failure; `verify`, `show`, `report`, `reconcile`: the log was changed, or a verdict contradicts the rule;
     `reconcile`: there are differences; `show`: nothing is recorded about the call
  2  wrong usage
  3  `verify`: something is missing, and a crash or a full disk explains it
  4  `verify`, `show`, `report`, `reconcile`, `anchor`: there is no log

docs/audit.md describes the log and each command.";

pub(super) const REPLAY: &str = "\
Examples:
  previewgate replay --audit /var/lib/previewgate/audit --config stricter.toml
  previewgate replay --audit gateway-1 --audit gateway-2 --config stricter.toml --summary

Exit codes:
  0   done (callouts that would be decided differently are no failure)
  1   a file cannot be read, or another failure
  2   wrong usage
  78  the configuration is refused";

pub(super) const SCHEMA: &str = "\
Examples:
  previewgate schema audit > audit.schema.json
  previewgate schema log > log.schema.json
  previewgate schema config > previewgate.schema.json

Exit codes:
  0  printed
  1  the schema cannot be printed
  2  wrong usage";

pub(super) const REPORT: &str = "\
Examples:
  previewgate report --since 7d /var/log/previewgate/*.log*
  journalctl -u previewgate -o cat | previewgate report --format json -
  previewgate report --since 7d /var/lib/previewgate/audit

Exit codes:
  0  reported
  1  a file cannot be read, or no line is a decision
  2  wrong usage";

pub(super) const HEALTH: &str = "\
Examples:
  previewgate health
  previewgate health --config /etc/previewgate/previewgate.toml
  previewgate health --socket /run/previewgate/admin.sock
  HEALTHCHECK CMD [\"/usr/bin/previewgate\", \"health\"]

Exit codes:
  0   the gateway is ready
  1   it is shutting down, or does not answer
  2   wrong usage
  78  the configuration is refused";

pub(super) const COMPLETIONS: &str = "\
Examples:
  previewgate completions bash > /usr/share/bash-completion/completions/previewgate
  previewgate completions zsh > /usr/share/zsh/site-functions/_previewgate

Exit codes:
  0  written
  1  the script cannot be written
  2  wrong usage";

pub(super) const MAN: &str = "\
Examples:
  previewgate man /usr/share/man/man1

Exit codes:
  0  written
  1  a page cannot be written
  2  wrong usage";
