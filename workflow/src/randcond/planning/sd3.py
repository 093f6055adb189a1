"""SD3 medium and the two SD3.5 at true size, to be made without their weights."""

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
    T5Config,
    T5EncoderModel,
)

from randcond.planning import sdxl

PARAMETERS = {"medium": 2_028_328_000, "medium-3.5": 2_243_171_520, "large-3.5": 8_056_627_520}
STUDENT_PARAMETERS = {
    "medium": {
        "half-depth": 1_008_559_168, "third-depth": 668_636_224,
        "two-thirds-width": 903_952_448, "half-width": 509_864_512,
    },
    "medium-3.5": {
        "half-depth": 1_107_717_952, "third-depth": 734_742_080,
        "two-thirds-width": 999_473_856, "half-width": 563_616_192,
    },
    "large-3.5": {  # two thirds of 38 heads are no number of heads
        "half-depth": 4_009_633_600, "third-depth": 2_518_635_840, "half-width": 2_018_825_152,
    },
}  # fmt: skip
LATENT = (16, 128, 128)


def transformer(name: str = "medium") -> SD3Transformer2DModel:
    """The transformer of SD3 ``medium``, SD3.5 ``medium-3.5`` or ``large-3.5``."""
    heads = {"medium": 24, "medium-3.5": 24, "large-3.5": 38}[name]
    newer = {"qk_norm": "rms_norm"} if name != "medium" else {}
    return SD3Transformer2DModel(
        sample_size=128,
        in_channels=16,
        out_channels=16,
        num_layers=heads,
        num_attention_heads=heads,
        attention_head_dim=64,
        caption_projection_dim=64 * heads,
        joint_attention_dim=4096,
        pooled_projection_dim=2048,
        pos_embed_max_size=384 if name == "medium-3.5" else 192,
        dual_attention_layers=tuple(range(13)) if name == "medium-3.5" else (),
        **newer,
    )


def vae() -> AutoencoderKL:
    """The autoencoder, of 16 channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        sample_size=1024,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def text_encoders(t5: bool = False) -> list[PreTrainedModel]:
    """CLIP ViT-L/14's, OpenCLIP ViT-bigG/14's and, where it is asked for, T5 XXL's."""
    small = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
        vocab_size=49408,
    )
    found: list[PreTrainedModel] = [CLIPTextModelWithProjection(one) for one in (small, sdxl.big_text())]
    if t5:
        large = T5Config(
            vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
            feed_forward_proj="gated-gelu",
        )  # fmt: skip
        found.append(T5EncoderModel(large))
    return found


def pipeline(tokenizer: CLIPTokenizer) -> StableDiffusion3Pipeline:
    """SD3 medium's whole pipeline without T5, in torch's default precision on its default device, random weights."""
    first, second = text_encoders()
    return StableDiffusion3Pipeline(
        vae=vae(),
        text_encoder=first,
        text_encoder_2=second,
        text_encoder_3=None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=None,
        transformer=transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
