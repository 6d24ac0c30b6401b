#ifndef DML_BACKENDS_BACKEND_H
#define DML_BACKENDS_BACKEND_H

#include "base/memory.h"
#include "base/rect.h"
#include "dml/optimisers.h"
#include "nn/graph.h"

/* How a graph is computed. A backend offers a few coarse functions; fusion, memory layouts,
 * reordering, activation memory and its reuse are its own business. */

/* TF32: float32, multiplied with 10 bits of mantissa; on GPUs only. */
enum dml_precision { DML_PRECISION_FP32, DML_PRECISION_BF16, DML_PRECISION_TF32 };

/* A batch of images as the loader makes them: 8-bit RGB, or (tests, other pipelines) floats that
 * already are the network's input. Exactly one of the two is set. */
struct dml_images {
    size_t n;
    int height, width;
    const uint8_t *pixels; /* (n, height, width, 3) */
    const float *input;    /* (n, 3, height, width) */
    uint64_t seed, step;   /* key the randomness of a forward pass in training: drop path */
    size_t first; /* also a key: the first image's place in the batch, where other processes have
                   * the rest */
    /* (n) for each image, what is 0 instead in the normalised input; width 0: nothing. NULL:
     * nothing in any image. */
    const struct dml_rect *erased;
};

/* The processes that share a batch, each with a part of the same size. All make the same calls. */
struct dml_batch_parts {
    int count, index; /* which of them this one is */
    /* Sends the `bytes` of each, in order, to all of them: all (count, bytes). */
    enum dml_status (*gather)(void *data, const void *mine, size_t bytes, void *all);
    /* Begins to make values (count) the sums over all, added in their order. They stay where they
     * are until that is done. */
    enum dml_status (*start_sum)(void *data, float *values, size_t count);
    /* Moves the sums that were begun on; with `wait` until they are done. */
    enum dml_status (*advance_sums)(void *data, bool wait);
    size_t sum_piece; /* values from which on it is worth beginning a sum */
    /* Waits until done(what) while their devices exchange something themselves; fails when one of
     * the processes is lost. */
    enum dml_status (*wait)(void *data, bool (*done)(void *what), void *what);
    void *data;
};

struct dml_network_options {
    enum dml_precision precision;
    size_t micro_batch; /* > 0: train in pieces of this many images; frozen batch norm only */
    size_t batch_hint;  /* training batch size, for the layout of weights; 0: unknown */
    bool recompute; /* train with less memory: what is inside a transformer's block is not kept but
                       recomputed in the backward pass, to the same bits */
    int device;     /* which GPU, for a backend with several */
    size_t states;  /* that the optimiser will keep: a GPU makes room for them at once, so that what
                       is left is left for a batch */
    /* Not NULL: other processes have parts of a batch. Gradients are those of the whole of it, and
     * so are batch norm's statistics, unless each part has its own. */
    const struct dml_batch_parts *parts;
    bool own_statistics;
};

/* What a network holds per parameter. The optimiser's states, DML_SLOT_STATE and those after it,
 * are 0 until the first step; the average equals the value until average is first called. */
enum dml_slot {
    DML_SLOT_VALUE,
    DML_SLOT_GRAD,
    DML_SLOT_AVERAGE,
    DML_SLOT_STATE,
    DML_SLOTS = DML_SLOT_STATE + DML_OPTIMISER_STATES
};

/* The learnable parameters among first..end-1 of the graph, which share a setting. */
struct dml_span {
    int first, end;
    size_t group; /* of dml_optimiser_step.updates */
};

/* In the order of the graph, without overlap. Parameters in none of them are left alone. */
struct dml_spans {
    const struct dml_span *items;
    size_t count;
};

/* One step of an optimiser. */
struct dml_optimiser_step {
    const struct dml_optimiser *optimiser;
    const void *options; /* of the optimiser */
    struct dml_spans spans;
    const struct dml_update *updates; /* one per group */
};

struct dml_gradient_size {
    double rms, norm, max;
};

/* What a backend can do on this machine. */
struct dml_backend_abilities {
    int devices;         /* that it can use: 1 for the processor; 0: the backend cannot be used */
    bool gpu;            /* they are GPUs, */
    bool built;          /* and this build includes what drives them */
    unsigned precisions; /* 1 << enum dml_precision for each */
    bool micro_batches;
    const char *reason; /* why devices or precisions are missing; NULL: none are */
};

/* A graph with parameters on a backend, whose own struct starts with this one. Functions that take
 * it are in backends/network.h. */
struct dml_network {
    const struct dml_backend *backend;
    struct dml_graph *graph; /* owned */
};

struct dml_backend {
    const char *name; /* "cpu", "cuda" */

    struct dml_backend_abilities (*abilities)(void);
    /* Why this device, one of abilities' `devices`, cannot be used; NULL: it can. May be NULL. */
    const char *(*unusable)(int device);

    /* DML_ERROR_UNSUPPORTED: a precision or option that this machine or graph does not allow. */
    enum dml_status (*check)(const struct dml_graph *graph,
                             const struct dml_network_options *options);

    /* After check. Parameters start uninitialised: write them. The caller sets `graph` and
     * `backend`. */
    enum dml_status (*create)(const struct dml_graph *graph,
                              const struct dml_network_options *options, struct dml_network **out);
    void (*destroy)(struct dml_network *network); /* all but the graph */

    /* Parameter `index` of the graph, plain PyTorch layout, `count` floats. GRAD and states exist
     * for learnable parameters only. Writing to the states and the average restores a run. */
    enum dml_status (*read)(struct dml_network *network, int index, enum dml_slot slot,
                            float *values);
    enum dml_status (*write)(struct dml_network *network, int index, enum dml_slot slot,
                             const float *values);

    /* Inference: running statistics, nothing kept. embeddings: (images->n, embed_dim); any n. */
    enum dml_status (*embed)(struct dml_network *network, const struct dml_images *images,
                             float *embeddings);

    /* Training: keeps what backward needs (with micro_batch: only the images' pointers, which must
     * stay valid until backward returns). Updates running statistics unless the graph is frozen.
     * What it keeps is lost when embed is called before backward. */
    enum dml_status (*forward)(struct dml_network *network, const struct dml_images *images,
                               float *embeddings);

    /* Gradients of all learnable parameters from dL/d(embeddings), replacing the previous ones.
     * With options.parts: their sums over the parts, added in the order of parts: the bits of one
     * process that computes them as pieces. */
    enum dml_status (*backward)(struct dml_network *network, const float *grad);

    /* The images of the embed or forward after the next one, which a device may copy while it
     * computes. They stay as they are until that call returns (with micro_batch: until its backward
     * does), or until NULL says that no announced ones will come. May be NULL. */
    void (*announce)(struct dml_network *network, const struct dml_images *images);

    /* Root mean square, Euclidean norm and largest absolute value over the gradients of `spans`;
     * NULL: of all learnable parameters. */
    enum dml_status (*gradient_size)(struct dml_network *network, const struct dml_spans *spans,
                                     struct dml_gradient_size *size);

    /* Multiplies these gradients by `scale`, then clamps them to [-limit, limit]. */
    enum dml_status (*clip)(struct dml_network *network, const struct dml_spans *spans,
                            double scale, double limit);

    enum dml_status (*step)(struct dml_network *network, const struct dml_optimiser_step *step);

    /* average = decay * average + (1 - decay) * value, for all parameters and running statistics.
     */
    enum dml_status (*average)(struct dml_network *network, double decay);
    /* Swaps values and averages: before and after an evaluation with the averages. */
    enum dml_status (*exchange)(struct dml_network *network);

    /* What it computes on, for logs: "cpu, 8 threads". */
    void (*describe)(const struct dml_network *network, char *text, size_t size);

    /* Memory from which images reach the device faster. Released before the network is closed.
     * NULL: any is as good. */
    struct dml_memory_source (*image_memory)(struct dml_network *network);

    /* Bytes held for activations and workspaces at their peak, for logs and benches. */
    size_t (*memory)(const struct dml_network *network);
};

extern const struct dml_backend dml_backend_cpu, dml_backend_cuda;

/* What a user asked for. */
struct dml_backend_wishes {
    enum dml_precision precision;
    bool micro_batches;
    bool gpu;   /* explicitly; otherwise a GPU is used where there is one */
    int device; /* which GPU */
};

/* The first backend that can do it, GPUs before the processor. *note: why no GPU is used although
 * this build could, a constant text, or NULL. DML_ERROR_UNSUPPORTED: no backend can, or the GPU
 * that was asked for cannot; the message says why. */
enum dml_status dml_backend_select(const struct dml_backend_wishes *wishes,
                                   const struct dml_backend **out, const char **note);

#endif
