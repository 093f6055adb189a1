"""SDXL base at true size, to be made without its weights."""

from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedModel

from randcond.planning import sd14

PARAMETERS = 2_567_463_684  # of the UNet
STUDENT_PARAMETERS = {
    "koala-1b": 1_161_184_324, "koala-700m": 782_822_724, "ssd-1b": 1_331_334_404,
    "b-base": 1_717_277_764, "b-small": 1_304_160_324, "c-base": 1_698_536_452,
}  # fmt: skip
LATENT = (4, 128, 128)


def unet() -> UNet2DConditionModel:
    """The UNet."""
    return UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def vae() -> AutoencoderKL:
    """The autoencoder."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=1024,
        scaling_factor=0.13025,
    )


def text_encoders() -> list[PreTrainedModel]:
    """CLIP ViT-L/14's and OpenCLIP ViT-bigG/14's."""
    return [sd14.text_encoder(), CLIPTextModelWithProjection(big_text())]


def big_text() -> CLIPTextConfig:
    """OpenCLIP ViT-bigG/14's text encoder, which SD3 has too."""
    return CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
        vocab_size=49408,
    )


def pipeline(tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
    """The whole pipeline with random weights, in torch's default precision on its default device; it draws by PNDM, as
    all pipelines of UNets do here."""
    first, second = text_encoders()
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet(),
        scheduler=PNDMScheduler(**sd14.SCHEDULER),
        add_watermarker=False,
    )
