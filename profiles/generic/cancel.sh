#!/bin/sh
# Ends the jobs of these IDs, in two seconds at most, when Snakemake is interrupted. SITE: one command, e.g. qdel "$@"
for job; do
  tsp -r "$job" 2>/dev/null || tsp -k "$job"  # out of the queue, or SIGTERM for its processes
done
