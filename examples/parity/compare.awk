# Compares two runs, row by row: awk -v gateway=v4 -v run=TITLE -f compare.awk docs/deviations.md plain.txt shim.txt
#
# The lines of docs/deviations.md, or docs/suites.md, between "<!-- parity -->" and "<!-- /parity -->" that begin with "| `" are the listed
# differences: | `ROWS` | gateway | `PLAIN` | `UNDER THE SHIM` | reason |. ROWS is the whole name of a row, PLAIN and
# UNDER THE SHIM are a part of what it says; in all three * is any text and {a,b} a choice. The gateway column is
# "any", or the run: "v4" or "v6", by which family the gateway is reached; in docs/suites.md "direct" or "relayed".
#
# Each row that ROWS names must differ, and as said; it may be equal if UNDER THE SHIM allows what PLAIN says as well. The last line is "N passed, N failed".

BEGIN { FS = "\n" }
function expression(pattern) {
    gsub(/[][\\.^$()+?|]/, "\\\\&", pattern)
    gsub(/\*/, ".*", pattern)
    while (match(pattern, /\{[^{}]*\}/)) {
        choice = substr(pattern, RSTART + 1, RLENGTH - 2)
        gsub(/,/, "|", choice)
        pattern = substr(pattern, 1, RSTART - 1) "(" choice ")" substr(pattern, RSTART + RLENGTH)
    }
    return pattern
}
function cell(text) {
    gsub(/^ *`?|`? *$/, "", text)
    return text
}
FNR == 1 { file++ }
file == 1 && /<!-- parity -->/ { listing = 1 }
file == 1 && /<!-- \/parity -->/ { listing = 0 }
file == 1 {
    if (listing && /^\| `/) {
        split($0, cells, "|")
        which = cell(cells[3])
        if (which == "any" || which == gateway) {
            listed++
            rows[listed] = cell(cells[2])
            name_of[listed] = "^" expression(rows[listed]) "$"
            plain_of[listed] = expression(cell(cells[4]))
            shim_of[listed] = expression(cell(cells[5]))
        }
    }
    next
}
{
    at = index($0, ": ")
    name = substr($0, 1, at - 1)
    said = substr($0, at + 2)
}
file == 2 { plain[name] = said; order[++total] = name }
file == 3 { shim[name] = said }
END {
    for (i = 1; i <= total; i++) {
        name = order[i]
        is_equal = (name in shim) && plain[name] == shim[name]
        why = is_equal ? "" : "not listed"
        for (entry = 1; entry <= listed; entry++) {
            if (name !~ name_of[entry])
                continue
            used[entry] = 1
            if (is_equal && !(plain[name] ~ plain_of[entry] && plain[name] ~ shim_of[entry])) {
                why = "stale: listed by " rows[entry] " and no longer different"
            } else if (plain[name] ~ plain_of[entry] && shim[name] ~ shim_of[entry]) {
                why = ""
                break
            } else {
                why = "listed by " rows[entry] " as another difference"
            }
        }
        if (why != "") {
            unexpected++
            print run ": " name ": " why
            print "    plain: " plain[name]
            print "    shim:  " ((name in shim) ? shim[name] : "no such row")
        } else if (is_equal) {
            equal++
        } else {
            differing++
        }
    }
    for (entry = 1; all && entry <= listed; entry++)
        if (!used[entry]) {
            stale++
            print run ": " rows[entry] " lists no row"
        }
    if (!total) {
        print "no row"
        stale++
    }
    printf "%s: %d rows, %d equal, %d listed differences, %d unexpected\n", run, total, equal, differing, unexpected + stale
    print equal + differing " passed, " unexpected + stale " failed"
}
