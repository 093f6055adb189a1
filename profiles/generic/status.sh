#!/bin/sh
# Prints running, success or failed for the ID that the submitting command printed: a single line, and exit 0, always.
# A job that the queue has forgotten, or that was killed, has failed: it is submitted again. SITE: all of it
case $(tsp -s "$1" 2>/dev/null) in
  queued | running) echo running ;;
  finished) if tsp -i "$1" | grep -q "died with exit code 0"; then echo success; else echo failed; fi ;;
  *) echo failed ;;
esac
