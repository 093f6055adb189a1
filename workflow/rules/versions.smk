# What is up to date is recorded by DVC, also after a run that failed in part.
include: "functions/versions.smk"


onsuccess:
    record_versions()


onerror:
    record_versions()
