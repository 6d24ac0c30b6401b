#include "nn/architectures/architectures.h"
#include "nn/architectures/vit.h"

/* The vision transformers that are published, and a tiny one for small machines. */

static const float half[] = {0.5f, 0.5f, 0.5f};
static const float imagenet_mean[] = {0.485f, 0.456f, 0.406f};
static const float imagenet_std[] = {0.229f, 0.224f, 0.225f};
static const float clip_mean[] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float clip_std[] = {0.26862954f, 0.26130258f, 0.27577711f};

static int build(struct dml_graph *graph, const struct dml_architecture_options *o) {
    return dml_vit_build(graph, o->architecture->vit, o);
}

#define OPTIONS                                                                                    \
    "normalize", "avg", "clsavg", "layernorm", "plainnorm", "mlp", "he", "orthogonal", "dinorule", \
        "plainrule", "droppath0.1"
static const char *const options[] = {OPTIONS, NULL};
static const char *const clip_options[] = {OPTIONS, "noprojection", NULL};

static const char vit_paper[] = "Dosovitskiy et al. 2021, An image is worth 16x16 words: "
                                "transformers for image recognition at scale";
static const char deit_paper[] = "Touvron et al. 2021, Training data-efficient image transformers "
                                 "and distillation through attention";
static const char dino_paper[] =
    "Caron et al. 2021, Emerging properties in self-supervised vision transformers";
static const char dinov2_paper[] =
    "Oquab et al. 2023, DINOv2: learning robust visual features without supervision";
static const char registers_paper[] = "Darcet et al. 2024, Vision transformers need registers";
static const char clip_paper[] =
    "Radford et al. 2021, Learning transferable visual models from natural language supervision";

#define DEIT_FILES "https://dl.fbaipublicfiles.com/deit/"
#define DINO_FILES "https://dl.fbaipublicfiles.com/dino/"
#define DINOV2_FILES "https://dl.fbaipublicfiles.com/dinov2/"
#define HUB_FILES "https://huggingface.co/timm/"

/* clang-format off */
/* What the tables of the papers say:         width heads patch depth */
static const struct dml_vit
    tiny16 =     {.width = 192, .heads =  3, .patch = 16, .depth = 12, .epsilon = 1e-6,
                  .mean = half, .std = half},
    small16 =    {.width = 384, .heads =  6, .patch = 16, .depth = 12, .epsilon = 1e-6,
                  .mean = half, .std = half},
    base16 =     {.width = 768, .heads = 12, .patch = 16, .depth = 12, .epsilon = 1e-6,
                  .mean = half, .std = half},
    deit =       {.width = 384, .heads =  6, .patch = 16, .depth = 12, .epsilon = 1e-6,
                  .mean = imagenet_mean, .std = imagenet_std,
                  .distilled = true, .loud_tokens = true},
    dino_small = {.width = 384, .heads =  6, .patch = 16, .depth = 12, .epsilon = 1e-6,
                  .mean = imagenet_mean, .std = imagenet_std, .loud_tokens = true},
    dino_base =  {.width = 768, .heads = 12, .patch = 16, .depth = 12, .epsilon = 1e-6,
                  .mean = imagenet_mean, .std = imagenet_std, .loud_tokens = true},
    dinov2_small = {.width = 384, .heads =  6, .patch = 14, .depth = 12, .epsilon = 1e-6,
                  .mean = imagenet_mean, .std = imagenet_std, .layer_scale = true},
    dinov2_base = {.width = 768, .heads = 12, .patch = 14, .depth = 12, .epsilon = 1e-6,
                  .mean = imagenet_mean, .std = imagenet_std, .layer_scale = true},
    dinov2_small_registers = {
                  .width = 384, .heads =  6, .patch = 14, .depth = 12, .epsilon = 1e-6,
                  .mean = imagenet_mean, .std = imagenet_std, .layer_scale = true, .registers = 4},
    dinov2_base_registers = {
                  .width = 768, .heads = 12, .patch = 14, .depth = 12, .epsilon = 1e-6,
                  .mean = imagenet_mean, .std = imagenet_std, .layer_scale = true, .registers = 4},
    clip =       {.width = 768, .heads = 12, .patch = 16, .depth = 12, .epsilon = 1e-5,
                  .mean = clip_mean, .std = clip_std,
                  .clip = true, .quick_gelu = true, .projection = 512};
/* clang-format on */

/* Other names, timm's among them. */
static const char *const vitt16[] = {"vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k",
                                     "vit_tiny_patch16_224.augreg_in21k_ft_in1k", NULL};
static const char *const vits16[] = {"vit_small_patch16_224", "vit_small_patch16_224.augreg_in21k",
                                     "vit_small_patch16_224.augreg_in21k_ft_in1k",
                                     "vit_small_patch16_224.augreg_in1k", NULL};
static const char *const vitb16[] = {"vit_base_patch16_224",
                                     "vit_base_patch16_224.augreg_in21k",
                                     "vit_base_patch16_224.augreg_in21k_ft_in1k",
                                     "vit_base_patch16_224.augreg_in1k",
                                     "vit_base_patch16_224.augreg2_in21k_ft_in1k",
                                     "vit_base_patch16_224.orig_in21k",
                                     "vit_base_patch16_224.orig_in21k_ft_in1k",
                                     NULL};
static const char *const deits16[] = {"deit_small_distilled_patch16_224",
                                      "deit_small_distilled_patch16_224.fb_in1k", NULL};
static const char *const dinos16[] = {"vit_small_patch16_224.dino", "dino_vits16", NULL};
static const char *const dinob16[] = {"vit_base_patch16_224.dino", "dino_vitb16", NULL};
static const char *const dinov2s14[] = {"vit_small_patch14_dinov2",
                                        "vit_small_patch14_dinov2.lvd142m", "dinov2_vits14", NULL};
static const char *const dinov2b14[] = {"vit_base_patch14_dinov2",
                                        "vit_base_patch14_dinov2.lvd142m", "dinov2_vitb14", NULL};
static const char *const dinov2s14_reg[] = {"vit_small_patch14_reg4_dinov2",
                                            "vit_small_patch14_reg4_dinov2.lvd142m",
                                            "dinov2_vits14_reg", NULL};
static const char *const dinov2b14_reg[] = {"vit_base_patch14_reg4_dinov2",
                                            "vit_base_patch14_reg4_dinov2.lvd142m",
                                            "dinov2_vitb14_reg", NULL};
static const char *const clipb16[] = {
    "vit_base_patch16_clip_224", "vit_base_patch16_clip_224.openai",
    "vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_clip_quickgelu_224.openai", NULL};

static const struct dml_architecture table[] = {
    {"vitt16", "ViT-Ti/16: 12 blocks of width 192, for small machines", vit_paper,
     "vitt16.safetensors", HUB_FILES "vit_tiny_patch16_224.augreg_in21k", NULL, 224, build, options,
     vitt16, &tiny16},
    {"vits16", "ViT-S/16: 12 blocks of width 384, trained on ImageNet-21k", vit_paper,
     "vits16.safetensors", HUB_FILES "vit_small_patch16_224.augreg_in21k", NULL, 224, build,
     options, vits16, &small16},
    {"vitb16", "ViT-B/16: 12 blocks of width 768, trained on ImageNet-21k", vit_paper,
     "vitb16.safetensors", HUB_FILES "vit_base_patch16_224.augreg_in21k", NULL, 224, build, options,
     vitb16, &base16},
    {"deits16", "DeiT-S/16 with a distillation token", deit_paper, "deits16.pth",
     DEIT_FILES "deit_small_distilled_patch16_224-649709d9.pth", NULL, 224, build, options, deits16,
     &deit},
    {"dinos16", "ViT-S/16 trained by DINO, without labels", dino_paper, "dinos16.pth",
     DINO_FILES "dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth", NULL, 224, build,
     options, dinos16, &dino_small},
    {"dinob16", "ViT-B/16 trained by DINO, without labels", dino_paper, "dinob16.pth",
     DINO_FILES "dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth", NULL, 224, build, options,
     dinob16, &dino_base},
    {"dinov2s14", "ViT-S/14 of DINOv2", dinov2_paper, "dinov2s14.pth",
     DINOV2_FILES "dinov2_vits14/dinov2_vits14_pretrain.pth", NULL, 224, build, options, dinov2s14,
     &dinov2_small},
    {"dinov2b14", "ViT-B/14 of DINOv2", dinov2_paper, "dinov2b14.pth",
     DINOV2_FILES "dinov2_vitb14/dinov2_vitb14_pretrain.pth", NULL, 224, build, options, dinov2b14,
     &dinov2_base},
    {"dinov2s14_reg", "ViT-S/14 of DINOv2 with 4 registers", registers_paper, "dinov2s14_reg.pth",
     DINOV2_FILES "dinov2_vits14/dinov2_vits14_reg4_pretrain.pth", NULL, 224, build, options,
     dinov2s14_reg, &dinov2_small_registers},
    {"dinov2b14_reg", "ViT-B/14 of DINOv2 with 4 registers", registers_paper, "dinov2b14_reg.pth",
     DINOV2_FILES "dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth", NULL, 224, build, options,
     dinov2b14_reg, &dinov2_base_registers},
    {"clipb16", "ViT-B/16 of CLIP, the image tower", clip_paper, "clipb16.safetensors",
     HUB_FILES "vit_base_patch16_clip_224.openai", NULL, 224, build, clip_options, clipb16, &clip},
};

const struct dml_architecture *dml_vit_at(size_t i) {
    return i < sizeof table / sizeof *table ? &table[i] : NULL;
}
