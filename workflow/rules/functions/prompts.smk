from randcond.prompts.smollm2 import MEMBER, WHEEL, WHEEL_SHA256
from randcond.settings.own import asking_for_pool


def prompt_settings(wildcards):
    """Of a draw."""
    asked = {"count", "pool", "max_characters", "expected", "held_out", "seed"}
    # how many texts one's own world has is not known before they are read
    own = CONFIG.world == "own"
    return settings(
        world=CONFIG.world,
        draw=int(wildcards.draw),
        **CONFIG.prompts.model_dump(include=asked),
        **({"pooled": bool(asking_for_pool(CONFIG, EXPERIMENTS))} if own else {}),
    )


def llm_settings(wildcards):
    llm = CONFIG.prompts.llm.model_dump()
    llm["seed"] += int(wildcards.draw)
    return settings(world=CONFIG.world, **llm, threads=1)


def writer_model(fetched):
    """The model that writes prompts: the fetched one, another folder, or none where a service writes."""
    writer = CONFIG.prompts.llm.writer
    if writer is None:
        return [fetched]
    return [writer.model] if writer.model else []


def description_settings():
    """What a language model needs to write the texts of a world that is described."""
    prompts = CONFIG.prompts
    llm = prompts.llm.model_dump()
    llm["examples"] = min(llm["examples"], len(set(prompts.examples)))
    return settings(
        world=CONFIG.world,
        **llm,
        threads=1,
        heading=f"Short texts, each of one image. {prompts.description}\n",
        given=list(dict.fromkeys(prompts.examples)),
    )
