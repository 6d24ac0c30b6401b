#include "nn/backbones/vit.h"

/* Published vision transformers, and a tiny one for small machines. */

static const float half[] = {0.5f, 0.5f, 0.5f};
static const float imagenet_mean[] = {0.485f, 0.456f, 0.406f};
static const float imagenet_std[] = {0.229f, 0.224f, 0.225f};
static const float clip_mean[] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float clip_std[] = {0.26862954f, 0.26130258f, 0.27577711f};

static int build(struct dml_graph *graph, const struct dml_backbone_context *c,
                 const void *options) {
    return dml_vit_build(graph, c->backbone->data, c, options);
}

#define AT(field) offsetof(struct dml_transformer_options, field)
static const char *const pools[] = {
    [DML_TOKENS_CLS] = "cls", [DML_TOKENS_AVG] = "avg", [DML_TOKENS_CLS_AVG] = "clsavg", NULL};
static const char *const rules[] = {[DML_POSITIONS_TIMM] = "timm",
                                    [DML_POSITIONS_DINO] = "dinorule",
                                    [DML_POSITIONS_PLAIN] = "plainrule",
                                    NULL};
static const struct dml_param params[] = {
    DML_HEAD_PARAMS(struct dml_transformer_options, head),
    {.name = "pool",
     .type = DML_PARAM_CHOICE,
     .offset = AT(pool),
     .fallback = "cls",
     .choices = pools,
     .help = "What becomes the feature: the class token, the mean of the patches, or both."},
    {.name = "positions",
     .type = DML_PARAM_CHOICE,
     .offset = AT(positions),
     .fallback = "timm",
     .choices = rules,
     .help = "How position embeddings are resampled for another number of patches: as timm, "
             "DINO's authors or transformers do it."},
    {.name = "droppath",
     .type = DML_PARAM_FLOAT,
     .offset = AT(drop_path),
     .fallback = "0",
     .max = 0.999999,
     .help = "Probability that the last block is left out for an image in training; it grows "
             "linearly from 0 in the first."},
    {.name = "noprojection",
     .type = DML_PARAM_FLAG,
     .offset = AT(no_projection),
     .help = "CLIP without its own last layer."},
};
#undef AT
static const struct dml_param_table clip_table =
    DML_PARAM_TABLE("Options of clipb16", struct dml_transformer_options, params);
/* All but the last. */
static const struct dml_param_table table = {
    .title = "Options of vision transformers",
    .options_size = sizeof(struct dml_transformer_options),
    .params = params,
    .count = sizeof params / sizeof *params - 1,
};

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

const struct dml_backbone dml_backbone_vitt16 = {
    .method = {"vitt16", "ViT-Ti/16: 12 blocks of width 192, for small machines", vit_paper,
               &table},
    .weights_file = "vitt16.safetensors",
    .weights_from = HUB_FILES "vit_tiny_patch16_224.augreg_in21k",
    .aliases = vitt16,
    .crop = 224,
    .build = build,
    .data = &tiny16,
};

const struct dml_backbone dml_backbone_vits16 = {
    .method = {"vits16", "ViT-S/16: 12 blocks of width 384, trained on ImageNet-21k", vit_paper,
               &table},
    .weights_file = "vits16.safetensors",
    .weights_from = HUB_FILES "vit_small_patch16_224.augreg_in21k",
    .aliases = vits16,
    .crop = 224,
    .build = build,
    .data = &small16,
};

const struct dml_backbone dml_backbone_vitb16 = {
    .method = {"vitb16", "ViT-B/16: 12 blocks of width 768, trained on ImageNet-21k", vit_paper,
               &table},
    .weights_file = "vitb16.safetensors",
    .weights_from = HUB_FILES "vit_base_patch16_224.augreg_in21k",
    .aliases = vitb16,
    .crop = 224,
    .build = build,
    .data = &base16,
};

const struct dml_backbone dml_backbone_deits16 = {
    .method = {"deits16", "DeiT-S/16 with a distillation token", deit_paper, &table},
    .weights_file = "deits16.pth",
    .weights_from = DEIT_FILES "deit_small_distilled_patch16_224-649709d9.pth",
    .aliases = deits16,
    .crop = 224,
    .build = build,
    .data = &deit,
};

const struct dml_backbone dml_backbone_dinos16 = {
    .method = {"dinos16", "ViT-S/16 trained by DINO, without labels", dino_paper, &table},
    .weights_file = "dinos16.pth",
    .weights_from = DINO_FILES "dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
    .aliases = dinos16,
    .crop = 224,
    .build = build,
    .data = &dino_small,
};

const struct dml_backbone dml_backbone_dinob16 = {
    .method = {"dinob16", "ViT-B/16 trained by DINO, without labels", dino_paper, &table},
    .weights_file = "dinob16.pth",
    .weights_from = DINO_FILES "dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    .aliases = dinob16,
    .crop = 224,
    .build = build,
    .data = &dino_base,
};

const struct dml_backbone dml_backbone_dinov2s14 = {
    .method = {"dinov2s14", "ViT-S/14 of DINOv2", dinov2_paper, &table},
    .weights_file = "dinov2s14.pth",
    .weights_from = DINOV2_FILES "dinov2_vits14/dinov2_vits14_pretrain.pth",
    .aliases = dinov2s14,
    .crop = 224,
    .build = build,
    .data = &dinov2_small,
};

const struct dml_backbone dml_backbone_dinov2b14 = {
    .method = {"dinov2b14", "ViT-B/14 of DINOv2", dinov2_paper, &table},
    .weights_file = "dinov2b14.pth",
    .weights_from = DINOV2_FILES "dinov2_vitb14/dinov2_vitb14_pretrain.pth",
    .aliases = dinov2b14,
    .crop = 224,
    .build = build,
    .data = &dinov2_base,
};

const struct dml_backbone dml_backbone_dinov2s14_reg = {
    .method = {"dinov2s14_reg", "ViT-S/14 of DINOv2 with 4 registers", registers_paper, &table},
    .weights_file = "dinov2s14_reg.pth",
    .weights_from = DINOV2_FILES "dinov2_vits14/dinov2_vits14_reg4_pretrain.pth",
    .aliases = dinov2s14_reg,
    .crop = 224,
    .build = build,
    .data = &dinov2_small_registers,
};

const struct dml_backbone dml_backbone_dinov2b14_reg = {
    .method = {"dinov2b14_reg", "ViT-B/14 of DINOv2 with 4 registers", registers_paper, &table},
    .weights_file = "dinov2b14_reg.pth",
    .weights_from = DINOV2_FILES "dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth",
    .aliases = dinov2b14_reg,
    .crop = 224,
    .build = build,
    .data = &dinov2_base_registers,
};

const struct dml_backbone dml_backbone_clipb16 = {
    .method = {"clipb16", "ViT-B/16 of CLIP, the image tower", clip_paper, &clip_table},
    .weights_file = "clipb16.safetensors",
    .weights_from = HUB_FILES "vit_base_patch16_clip_224.openai",
    .aliases = clipb16,
    .crop = 224,
    .build = build,
    .data = &clip,
};
