"""A language model on this machine that continues a list, a line a topic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.cache_utils import Cache, DynamicLayer

from randcond.jobs.errors import reading
from randcond.jobs.seeding import generator
from randcond.prompts.writing import ContinueList, Settings

_LIKELIEST = 256  # tokens that are sampled from; sorting all 49,152 would cost a tenth of the time
_TOKENS = 0  # stream of random numbers


def load_writer(model_file: Path, settings: Settings) -> ContinueList:
    """Load a GGUF file (float32) or a transformers folder and return the function that continues a list with it.

    On a GPU a folder's model runs in bfloat16. Code that lies in the folder is not run.

    Raises:
        UserError: If there is no such model.
    """
    gpu = torch.cuda.is_available()
    # False, not None: transformers would ask at the terminal whether it may
    chosen: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if not model_file.is_dir():
        chosen |= {"gguf_file": model_file.name}
    folder = str(model_file if model_file.is_dir() else model_file.parent)
    dtype = torch.bfloat16 if gpu and model_file.is_dir() else torch.float32
    with reading(
        model_file, "a language model", missing="run snakemake fetch", broken="fetch it again or name another"
    ):
        # of a GGUF file the same without AutoTokenizer's reading of its model: 9 s of a core
        kind = AutoTokenizer if model_file.is_dir() else PreTrainedTokenizerFast
        tokenizer = kind.from_pretrained(folder, **chosen)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **chosen).eval()

    model.to("cuda" if gpu else "cpu")
    newlines = torch.tensor(["\n" in tokenizer.decode([i]) for i in range(len(tokenizer))])
    newline = _bare(tokenizer, "\n")[-1]

    def continue_list(prompt: str, topics: Sequence[str], round_: int) -> list[str]:
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
        starts = [_bare(tokenizer, f"- {topic}:" if topic else "-") for topic in topics]
        tokens = _sample(model, ids, starts, newlines, settings, round_, (tokenizer.eos_token_id, newline))
        written = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        # the last line of each row is cut off somewhere
        lines = [line for text in written for line in text.split("\n")[:-1] if line]
        return [line.split(":", 1)[-1] for line in lines] if any(topics) else lines

    return continue_list


def _bare(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text's part: Llama's and Gemma's tokenizers begin every text with a special one."""
    tokens: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return tokens


@torch.inference_mode()
def _sample(
    model: Any,
    ids: torch.Tensor,
    starts: Sequence[list[int]],
    newlines: torch.Tensor,
    settings: Settings,
    round_: int,
    end: tuple[int | None, int],
) -> torch.Tensor:
    """Continue one prompt (1, length) in ``batch`` rows; token ids (batch, new_tokens).

    Every line of a row begins with the next of ``starts``, which is put in its mouth; the rest is sampled. Where the
    model would end its answer, the first token of ``end``, the second one begins a line instead.
    """
    eos, newline = end
    rng = generator(settings.seed, _TOKENS, round_)
    first = model(ids, use_cache=True, logits_to_keep=1)
    layers = first.past_key_values.layers
    cache = Cache([_RoomyLayer(layer, settings.batch, settings.new_tokens) for layer in layers])
    logits, tokens = first.logits[:, -1].expand(settings.batch, -1), []
    upcoming = iter(starts)
    forced = [list(next(upcoming)) for _ in range(settings.batch)]
    for _ in range(settings.new_tokens):
        best, candidates = (part.cpu() for part in logits.float().topk(_LIKELIEST))
        likely = (best / settings.temperature).softmax(-1)
        likely[likely.cumsum(-1) - likely >= settings.top_p] = 0
        token = candidates.gather(1, torch.multinomial(likely, 1, generator=rng))
        token[token == eos] = newline
        for row, waiting in enumerate(forced):
            if waiting:
                token[row] = waiting.pop(0)
            elif newlines[token[row]]:
                waiting.extend(next(upcoming, starts[row]))
        tokens.append(token)
        logits = model(token.to(ids.device), past_key_values=cache, use_cache=True).logits[:, -1]
    return torch.cat(tokens, 1)


class _RoomyLayer(DynamicLayer):
    """A prompt's keys and values for each of a batch, with room for the tokens to come.

    The library's own layer copies everything anew for each token: 40% of the time.
    """

    def __init__(self, prompt: Any, batch: int, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = prompt.dtype, prompt.device, True
        both = (prompt.keys, prompt.values)
        self._whole = [F.pad(part.expand(batch, -1, -1, -1), (0, 0, 0, room)) for part in both]
        self._fit(prompt.keys.shape[-2])

    def _fit(self, length: int) -> None:
        self.keys, self.values = (part[..., :length, :] for part in self._whole)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        start = self.keys.shape[-2]
        self._fit(start + key_states.shape[-2])
        self.keys[..., start:, :], self.values[..., start:, :] = key_states, value_states
        return self.keys, self.values
