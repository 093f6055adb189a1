from randcond.assets.listing import needed, read_assets
from randcond.settings.workflow import asks_writer, without_idle_writer

ASSETS = read_assets(Path("config/assets.yaml"))
# left out are the language model where nothing asks it, and a layout beside a folder, which describes itself
ASKING = CONFIG.model_dump() | {"teacher_layout": CONFIG.layout}, [
    EXPERIMENTS.runs[run].model_dump() for run in RUNS
]
NO_LLM = CONFIG.prompts.llm.writer or not asks_writer(*ASKING)
NEEDED = [
    f"results/assets/{name}" for name in needed(ASSETS, without_idle_writer(*ASKING))
]


rule fetch_asset:
    """Weights or data from outside; with fetch_llm the only stage that needs the network."""
    output:
        directory("results/assets/{asset}"),
    log:
        "results/assets/logs/{asset}.log",
    wildcard_constraints:
        asset="|".join(ASSETS),
    localrule: True
    params:
        settings=lambda w: settings(**ASSETS[w.asset].model_dump()),
        lock="config/assets.lock.json",
    shell:
        "env HF_HUB_OFFLINE=0 python -m randcond.assets.fetch --asset {wildcards.asset:q} --assets config/assets.yaml"
        " --lock {params.lock:q} --work results/assets/downloads/{wildcards.asset:q} --output {output:q} --log {log:q}"


rule fetch:
    """Everything from outside that the configuration needs."""
    input:
        NEEDED,
        [] if NO_LLM else rules.fetch_llm.output,
    localrule: True
