# What is up to date is recorded by DVC, also after a run that failed in part.
include: "functions/versions.smk"


onstart:
    warn_of_links()


onsuccess:
    record_versions()


onerror:
    record_versions()
