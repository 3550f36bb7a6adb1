#!/bin/sh
# Run the claims of a paper, and compare with the baseline that this repository has accepted.
#
#   sh gate.sh PAPER
#
# The status is 0 where all is well and 3 where something is undecided, 1 where a claim is missed or
# a result has changed, and 2 where the claims could not be run.
paper=${1:?whose claims: sh gate.sh PAPER}

quantbench run "$paper"
ran=$?
case $ran in 0 | 1 | 3) ;; *) exit $ran ;; esac

# asked after a miss too: it says what else has changed
quantbench gate "$paper" --baseline baseline.json --junit runs/gate.xml --summary runs/gate.md
gated=$?
[ $ran -eq 1 ] && exit 1
exit $gated
