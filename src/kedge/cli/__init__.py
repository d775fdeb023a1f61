"""The command line: arguments to calls, answers to text; one module per verb.

What lives here: options, tables, progress, and exit codes (`exits`). What does not: anything a
program would want too (that is `kedge.client`). A verb's module imports only Typer at its top and
what it needs inside the verb, so that `kedge --help` and completion are quick. May import `client`,
`modes`, `settings` and `lib`; `server` inside the `serve` verb only.
"""
