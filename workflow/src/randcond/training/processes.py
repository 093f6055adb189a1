"""What the processes of a training compute in and exchange."""

from accelerate import Accelerator, DistributedDataParallelKwargs

from randcond.jobs.stage import device


def accelerator_for(mixed_precision: str) -> Accelerator:
    """Of this process, on its own GPU or the CPU.

    Args:
        mixed_precision: ``no``, ``fp16`` or ``bf16``.
    """
    # or several processes would keep every gradient twice: four bytes a parameter
    views = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    return Accelerator(mixed_precision=mixed_precision, cpu=device() == "cpu", kwargs_handlers=[views])
