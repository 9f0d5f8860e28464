# The harness' watchdog: outlives the process that started it, and then removes what that process left.
# Reads from standard input, one per line:  guard DIR | release DIR
# When the input ends, its owner is gone, whatever ended it. Each guarded DIR may hold run/*.pid, each with
# "PID STARTTIME" (STARTTIME: field 22 of /proc/PID/stat; it protects a process that reuses the number).
trap '' INT TERM HUP QUIT
IFS='
'
set --
while read -r line; do
    dir=${line#* }
    case $line in
        "guard "*) set -- "$@" "$dir" ;;
        "release "*)
            kept=''
            for one in "$@"; do [ "$one" = "$dir" ] || kept="$kept$one$IFS"; done
            # shellcheck disable=SC2086 # split at line ends only: IFS is a line end
            set -- $kept
            ;;
    esac
done

started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

end_tree() {
    kill -STOP "$1" 2>/dev/null || return
    for status in $(grep -l "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status 2>/dev/null); do
        child=${status#/proc/}
        kill -KILL "${child%/status}" 2>/dev/null
    done
    kill -KILL "$1" 2>/dev/null
}

for dir in "$@"; do
    for file in "$dir"/run/*.pid; do
        [ -f "$file" ] || continue
        line=$(cat "$file")
        pid=${line%% *}
        [ "$(started "$pid")" = "${line#* }" ] && end_tree "$pid"
    done
done
for dir in "$@"; do
    tries=0
    until rm -rf "$dir" 2>/dev/null || [ "$tries" -ge 50 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
done
