#!/bin/sh
# Starts @NAME@ again as it was started; it ends with everything else.
# Tries for a while: the sessions of a killed database server may need a moment to end.
for try in 1 2 3 4 5 6 7 8; do
    setsid env @COMMAND@ >>@LOG@ 2>&1 </dev/null &
    sleep 0.5
    stat=$(sed 's/.*) //' /proc/$!/stat 2>/dev/null)
    case $stat in '' | Z*) continue ;; esac
    echo "$! $(echo "$stat" | cut -d' ' -f20)" >@PID_FILE@
    echo "@NAME@ now runs as process $!"
    exit 0
done
echo "@NAME@ did not start, see "@LOG@ >&2
exit 1
