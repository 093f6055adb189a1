from randcond.assets.listing import needed, read_assets

ASSETS = read_assets(Path("config/assets.yaml"))
# one's own world has its texts written only where they are described
NO_LLM = CONFIG.prompts.llm.writer or (CONFIG.world == "own" and not WRITTEN)
NEEDED = [f"results/assets/{name}" for name in needed(ASSETS, CONFIG.model_dump())]


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
