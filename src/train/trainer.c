#include "train/trainer.h"

#include "base/files.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/progress.h"
#include "base/stream.h"
#include "dml/dml.h"
#include "train/batches.h"
#include "train/checkpoint.h"
#include "train/embedding.h"
#include "train/evaluation.h"
#include "train/ranks.h"
#include "train/run_folder.h"
#include "train/undo.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EPOCH_VALUES = 4 }; /* that are reported for an epoch whatever its parameter groups */

/* What came out of a step. */
struct step {
    struct dml_loss loss;
    struct dml_gradient_size gradient; /* before clipping */
    size_t swapped;                    /* tuples, by a regularised miner */
    bool clipped;
};

/* A run under way: the experiment that data moves through, and where the run stands. */
struct trainer {
    struct dml_experiment e;
    struct dml_position at;
    struct dml_tracking *tracking;
    struct dml_run run;
    struct dml_run_folder folder;
    struct dml_state_texts before; /* of the state that the run continues from */
    cJSON *notes;                  /* before.trackers */
    bool over;                     /* it has all its epochs, and everything was written */
    const volatile sig_atomic_t *stop;

    uint32_t *plan; /* (batches, batch size) */
    size_t batches;
    struct dml_run_ranks ranks;     /* the batch at hand, of which each has a part */
    size_t rank_records;            /* how many of ranks.records are the epoch's */
    float *gradient;                /* (batch size, dim) */
    struct dml_named_value *values; /* of the last epoch, for its record */
    struct dml_run_evaluation evaluation;
    struct dml_undo undo; /* what the step under way has changed */
    bool between;         /* steps: everything is as the last one left it, and can be saved */
    double last_state;    /* when the state was last saved */
    double epoch_started; /* dml_now() less the epoch's seconds before the run was resumed */
};

static bool wants_stop(const struct trainer *t) {
    return t->stop && *t->stop;
}

/* Rank 0 alone has folder, trackers and checkpoints. */
static bool leads(const struct trainer *t) {
    return t->ranks.comm->rank == 0;
}

static bool state_is_due(const struct trainer *t) {
    return (dml_now() - t->last_state) / 60 >= t->e.setup->state_minutes;
}

/* Network, miner, criterion: the loss of a batch and dL/d(embeddings). */
static enum dml_status forward(struct trainer *t, const struct dml_images *images,
                               const struct dml_loaded *own, struct step *step) {
    struct dml_experiment *e = &t->e;
    struct dml_run_ranks *r = &t->ranks;
    uint64_t seed = (uint64_t)e->training->seed;
    enum dml_status status =
        dml_network_forward(e->network, images, r->embeddings + r->first * r->dim);
    if (!status)
        status = dml_ranks_gather(r, own, wants_stop(t), state_is_due(t));
    const struct dml_batch batch = {r->bs, r->dim, r->embeddings, r->labels, NULL};
    if (!status)
        status = dml_terms_compute(&e->terms, &batch, seed, t->at.step, t->gradient, &step->loss,
                                   &step->swapped);
    if (!status && !isfinite(step->loss.value))
        status = dml_fail(DML_ERROR_NUMERIC, "the loss is %g", step->loss.value);
    return status;
}

/* Gradients, and what the learner makes of them. */
static enum dml_status backward(struct trainer *t, struct step *step) {
    struct dml_experiment *e = &t->e;
    enum dml_status status =
        dml_network_backward(e->network, t->gradient + t->ranks.first * t->ranks.dim);
    if (!status)
        status = dml_learner_step(&e->learner, t->at.step, &step->gradient, &step->clipped);
    return status;
}

/* What trackers are told about a step. A new value is a line here; those of the group "steps" are
 * columns that Data_Train_steps.csv has had from the start. */
static enum dml_status tell_step(struct trainer *t, const struct step *step, double seconds) {
    const struct dml_run_schedule *schedule = &t->e.learner.schedule;
    const struct dml_named_value values[] = {
        {"gradient", "grad_rms", step->gradient.rms},
        {"gradient", "grad_max", step->gradient.max},
        {"steps", "tuples", (double)step->loss.tuples},
        {"steps", "active", (double)step->loss.active},
        {"steps", "swapped", (double)step->swapped},
        {"steps_learning", "lr", dml_schedule_rate(schedule, t->e.training->lr, t->at.step)},
        {"steps_learning", "clipped", step->clipped},
    };
    const struct dml_step_record record = {.step = t->at.step,
                                           .epoch = t->at.epoch,
                                           .loss = step->loss.value,
                                           .seconds = seconds,
                                           .values = values,
                                           .value_count = sizeof values / sizeof values[0]};
    return dml_tracking_step(t->tracking, &record);
}

static enum dml_status train_step(struct trainer *t, const struct dml_loaded *batch) {
    double started = dml_now();
    struct step step = {0};
    const struct dml_images images = {.n = batch->n,
                                      .height = batch->height,
                                      .width = batch->width,
                                      .pixels = batch->pixels,
                                      .seed = (uint64_t)t->e.training->seed,
                                      .step = t->at.step,
                                      .first = t->ranks.first,
                                      .erased = batch->erased};
    enum dml_status status = dml_undo_note(&t->e, &t->undo);
    t->between = false;
    if (!status)
        status = forward(t, &images, batch, &step);
    if (!status)
        status = backward(t, &step);
    if (status && t->ranks.comm->broken) {
        t->between = dml_undo_back(&t->e, &t->undo) == DML_OK;
        return status;
    }
    if (status)
        return dml_fail_within(status == DML_ERROR_INPUT ? DML_ERROR_NUMERIC : status,
                               "step %llu (epoch %llu)", (unsigned long long)t->at.step,
                               (unsigned long long)t->at.epoch + 1);
    dml_sampling_update(t->e.sampling, t->ranks.indices, t->ranks.bs, t->ranks.embeddings);
    if (leads(t))
        status = tell_step(t, &step, dml_now() - started);
    t->at.step++;
    t->at.epoch_step++;
    t->at.epoch_loss += step.loss.value;
    t->at.tuples += step.loss.tuples;
    t->at.active += step.loss.active;
    t->at.swapped += step.swapped;
    t->at.clipped += step.clipped;
    t->between = !status;
    t->at.epoch_seconds = dml_now() - t->epoch_started;
    return status;
}

static void planned(void *data, size_t done) {
    dml_progress_update(data, done);
}

static enum dml_status plan_epoch(struct trainer *t) {
    struct dml_progress progress = {.quiet = true};
    if (dml_sampling_store(t->e.sampling))
        dml_progress_start(&progress, "planning batches", "batches", t->batches);
    enum dml_status status =
        dml_sampling_plan(t->e.sampling, t->at.epoch, t->plan, planned, &progress);
    if (!status)
        dml_progress_end(&progress);
    if (!status && t->at.step == 0)
        status = dml_batches_warn(&t->e, t->plan, t->batches);
    t->at.plan = t->plan;
    return status;
}

/* Trackers are on disk before the state that says where they are. */
static enum dml_status save_state(struct trainer *t) {
    if (!leads(t))
        return DML_OK;
    char *path = dml_path_join(t->folder.path, "state.safetensors");
    struct dml_state_texts texts = {.identity = t->folder.identity,
                                    .bests = dml_run_evaluation_bests(&t->evaluation)};
    enum dml_status status = path && texts.bests ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_tracking_sync(t->tracking, &texts.trackers);
    if (!status)
        status = dml_state_save(&t->e, path, &t->at, &texts);
    t->last_state = dml_now();
    texts.identity = NULL; /* the folder's */
    dml_state_texts_free(&texts);
    free(path);
    return status;
}

/* What loaders have said about images so far. */
static enum dml_status share_told(const struct trainer *t) {
    const struct dml_dataset *set = &t->e.dataset;
    const struct dml_part *const parts[] = {&set->training, &set->validation, &set->testing};
    return dml_ranks_share_told(t->ranks.comm, parts, sizeof parts / sizeof *parts);
}

/* At the same place on all ranks. */
static bool stopped(const struct trainer *t) {
    return t->ranks.comm->size > 1 ? t->ranks.stop : wants_stop(t);
}

/* The remaining images of an epoch that are this rank's: its part of each batch. What images look
 * like depends on their place in the whole epoch. */
static enum dml_status start_loader(struct trainer *t) {
    const struct dml_run_ranks *r = &t->ranks;
    size_t done = t->at.epoch_step, left = t->batches - done;
    uint32_t *own = dml_alloc(left * r->part, sizeof *own);
    if (!own)
        return DML_ERROR_MEMORY;
    for (size_t b = 0; b < left; b++)
        memcpy(own + b * r->part, t->plan + (done + b) * r->bs + r->first, r->part * sizeof *own);
    dml_loader_place(t->e.train_loader, done * r->bs + r->first, r->bs);
    enum dml_status status = dml_loader_start(t->e.train_loader, t->at.epoch, own, left * r->part);
    free(own);
    return status;
}

/* Takes the remaining steps of an epoch; the plan is made unless the epoch is under way. */
static enum dml_status train_epoch(struct trainer *t) {
    t->epoch_started = dml_now() - t->at.epoch_seconds;
    size_t batch_size = (size_t)t->e.training->bs;
    enum dml_status status = t->at.plan ? DML_OK : plan_epoch(t);
    if (!status)
        status = start_loader(t);
    size_t before = t->at.epoch_step;
    struct dml_progress progress;
    char title[40];
    snprintf(title, sizeof title, "epoch %llu/%lld", (unsigned long long)t->at.epoch + 1,
             (long long)t->e.training->n_epochs);
    dml_progress_start(&progress, title, "images", t->batches * batch_size);
    dml_ranks_begin(&t->ranks);
    progress.started = t->epoch_started; /* the steps before count in its rate */
    for (size_t i = before; !status && i < t->batches && !stopped(t); i++) {
        const struct dml_loaded *batch;
        status = dml_loader_next(t->e.train_loader, &batch);
        if (status)
            break;
        dml_announce_next(t->e.network, t->e.train_loader);
        status = train_step(t, batch);
        dml_loader_release(t->e.train_loader, batch);
        dml_progress_note(&progress, "loss %.4f%s",
                          t->at.epoch_loss / (double)(t->at.epoch_step ? t->at.epoch_step : 1),
                          dml_run_evaluation_best_text(&t->evaluation));
        dml_progress_update(&progress, (i + 1) * batch_size);
        if (!status && t->ranks.save && t->at.epoch_step < t->batches) {
            status = share_told(t);
            if (!status)
                status = save_state(t);
        }
    }
    dml_network_announce(t->e.network, NULL);
    if (!status)
        status = share_told(t);
    if (!status && t->e.network_flags->no_sync_bn)
        status = dml_ranks_share_statistics(t->ranks.comm, t->e.network);
    dml_progress_end(&progress);
    if (!status)
        status = dml_ranks_measure(&t->ranks, t->at.epoch_step - before, &t->rank_records);
    return status;
}

/* Different images that loaders said `what` about, over the whole run, even if it was resumed. */
static size_t images_told(const struct dml_experiment *e, unsigned char what) {
    const struct dml_part *const parts[] = {&e->dataset.training, &e->dataset.validation,
                                            &e->dataset.testing};
    size_t sum = 0;
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++)
        for (size_t i = 0; i < parts[p]->images; i++)
            sum += (parts[p]->told[i] & what) != 0;
    return sum;
}

/* What trackers report of an epoch besides its loss, times and metrics. Rates are those of its last
 * step. */
static void describe(struct trainer *t, struct dml_epoch_record *record) {
    const struct dml_learner *l = &t->e.learner;
    uint64_t last = t->at.step ? t->at.step - 1 : 0;
    double steps = t->at.epoch_step ? (double)t->at.epoch_step : 1;
    double tuples = t->at.tuples ? (double)t->at.tuples : 1;
    const struct dml_named_value fixed[EPOCH_VALUES] = {
        /* how much of what the miner gave had a gradient, and was swapped by a regularised one */
        {"mining", "active_share", (double)t->at.active / tuples},
        {"mining", "swapped_share", (double)t->at.swapped / tuples},
        /* so far; corrupt ones are used as far as they decode */
        {"mining", "replaced_images", (double)images_told(&t->e, DML_TOLD_UNREADABLE)},
        {"images", "corrupt_images", (double)images_told(&t->e, DML_TOLD_CORRUPT)},
    };
    size_t count = l->groups.count;
    for (size_t i = 0; i < count; i++)
        t->values[i] = (struct dml_named_value){"learning", l->groups.items[i].rate_name,
                                                dml_groups_rate(&l->groups, i, &l->schedule, last)};
    t->values[count++] =
        (struct dml_named_value){"learning", "clipped_share", (double)t->at.clipped / steps};
    memcpy(t->values + count, fixed, sizeof fixed);
    record->lr = dml_schedule_rate(&l->schedule, t->e.training->lr, last);
    record->values = t->values;
    record->value_count = count + EPOCH_VALUES;
}

/* Rank 0 has the metrics that a schedule may look at. */
static enum dml_status observe(struct trainer *t, const struct dml_epoch_record *record) {
    struct dml_run_schedule *schedule = &t->e.learner.schedule;
    if (leads(t))
        dml_schedule_observe(schedule, record);
    return dml_comm_broadcast(t->ranks.comm, &schedule->memory, sizeof schedule->memory);
}

/* Metrics, checkpoints and trackers after an epoch. */
static enum dml_status finish_epoch(struct trainer *t) {
    const struct dml_training_options *o = t->e.training;
    struct dml_epoch_record record = {
        .epoch = t->at.epoch,
        .loss = t->at.epoch_step ? t->at.epoch_loss / (double)t->at.epoch_step : 0,
        .train_seconds = t->at.epoch_seconds,
        .train_images = t->at.epoch_step * (size_t)o->bs,
        .ranks = t->ranks.records,
        .rank_count = t->rank_records};
    describe(t, &record);
    bool last = t->at.epoch + 1 >= (uint64_t)o->n_epochs;
    bool due = (t->at.epoch + 1) % (uint64_t)t->e.evaluation->eval_every == 0 || last;
    enum dml_status status = DML_OK;
    if (due)
        status = dml_run_evaluate(&t->evaluation, &t->e, t->folder.path, t->stop, &record);
    if (!status)
        status = dml_comm_alone_begin(t->ranks.comm); /* plots may take long */
    if (!status)
        t->between = false; /* trackers must not be told twice */
    if (!status && leads(t))
        status = dml_tracking_epoch(t->tracking, &record);
    status = dml_comm_alone_end(t->ranks.comm, status);
    if (!status && due && t->at.epoch_step)
        status = observe(t, &record);
    if (!status)
        status = share_told(t);
    if (!status)
        status = dml_ranks_check_weights(t->ranks.comm, t->e.network);
    dml_run_evaluation_release(&t->evaluation);
    if (!status) /* a resumed run repeats an evaluation that was interrupted */
        t->at = (struct dml_position){.epoch = t->at.epoch + 1, .step = t->at.step};
    if (!status)
        t->between = true;
    t->rank_records = 0;
    return status;
}

/* The store of samplers that look at the embedding space: one pass over the training images. */
static enum dml_status fill_store(struct trainer *t) {
    struct dml_store *store = dml_sampling_store(t->e.sampling);
    struct dml_experiment *e = &t->e;
    if (!store)
        return DML_OK;
    struct dml_loader *loader = e->eval_loaders[DML_EVALUATE_TRAIN];
    struct dml_loader *own = NULL;
    enum dml_status status = DML_OK;
    if (!loader) { /* --no_train_metrics */
        status = dml_experiment_loader(e, &e->dataset.training, false, &own);
        loader = own;
    }
    if (!status)
        status =
            dml_embed_images(e->network, loader, store->images, "embedding the training images",
                             t->stop, t->ranks.comm, DML_EMBEDDED_EVERYWHERE, store->embeddings);
    dml_loader_close(own);
    return status;
}

/* Restores everything from the state that --resume names. */
static enum dml_status resume(struct trainer *t) {
    bool has_plan;
    const char *path = t->e.setup->resume;
    t->at.plan = t->plan;
    enum dml_status status = dml_state_restore(&t->e, path, &t->at, &has_plan, &t->before);
    if (!status && !has_plan)
        t->at.plan = NULL;
    if (!status && t->before.bests)
        status = dml_run_evaluation_restore(&t->evaluation, path, t->before.bests);
    if (!status && !t->before.identity)
        status = dml_fail(DML_ERROR_INPUT, "%s: does not say which run it belongs to", path);
    if (!status && t->folder.in_place)
        status = dml_run_folder_check(&t->folder, path, t->before.identity);
    if (!status && t->folder.in_place && t->before.trackers)
        status = dml_json_parse(t->before.trackers, strlen(t->before.trackers), &t->notes,
                                "%s: what trackers noted in it cannot be read", path);
    uint64_t epochs = (uint64_t)t->e.training->n_epochs;
    if (!status && t->at.epoch >= epochs && t->at.epoch > 0) {
        dml_inform("the run already has its %llu epochs; a larger --n_epochs continues it",
                   (unsigned long long)epochs);
        t->over = t->folder.in_place && t->folder.finished && t->folder.finished_step == t->at.step;
    }
    return status;
}

/* Folder and parameters of the run. What it continues from in its own folder is not one of them: it
 * stays the run that it was. */
static enum dml_status settle(struct trainer *t, struct dml_params *params, const char *command) {
    struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    setup->changed_data = false; /* these are the run's data from here on */
    if (!leads(t))
        return DML_OK;
    if (!t->folder.in_place)
        return dml_run_folder_make(params, command, &t->folder);
    if (t->over)
        return DML_OK;
    enum dml_status status = dml_params_clear(params, "resume");
    if (!status)
        status = dml_run_folder_finish(&t->folder, false, 0);
    return status ? status : dml_run_folder_params(&t->folder, params);
}

static enum dml_status open_tracking(struct trainer *t, const char *command) {
    /* a run that was killed before the database knew it keeps the command that it began with */
    dml_experiment_describe(&t->e, &t->folder, t->folder.command ? t->folder.command : command,
                            &t->run);
    if (t->folder.in_place) {
        t->run.first_step = t->at.step;
        t->run.first_epoch = t->at.epoch;
        t->run.notes = t->notes;
        if (t->before.identity && strcmp(t->before.identity, t->folder.identity) != 0)
            t->run.copy_of = t->before.identity;
    }
    enum dml_status status = dml_tracking_open(&t->run, t->e.tracking, &t->tracking);
    return status ? status : save_state(t); /* however early it is killed, it can be resumed */
}

static enum dml_status open_trainer(struct trainer *t, struct dml_params *params,
                                    const char *command) {
    struct dml_comm *comm = t->ranks.comm;
    enum dml_status status = leads(t) ? dml_run_folder_take_up(params, &t->folder) : DML_OK;
    if (!status)
        status = dml_experiment_open(params, t->stop, comm, &t->e);
    if (status)
        return status;
    size_t bs = (size_t)t->e.training->bs, dim = dml_network_dim(t->e.network);
    status = dml_ranks_print(comm, t->e.network);
    if (!status)
        status = dml_ranks_open(comm, bs, dim, &t->ranks);
    if (status)
        return status;
    t->batches = dml_sampling_batches(t->e.sampling);
    t->plan = dml_alloc(t->batches * bs, sizeof *t->plan);
    t->gradient = dml_alloc_aligned(bs * dim, sizeof *t->gradient);
    t->values = dml_alloc(t->e.learner.groups.count + 1 + EPOCH_VALUES, sizeof *t->values);
    if (!t->plan || !t->gradient || !t->values)
        return DML_ERROR_MEMORY;
    bool has_state = dml_resume_has_state(t->e.setup->resume);
    if (has_state)
        status = resume(t);
    if (!status)
        status = dml_ranks_check(comm, &t->e);
    if (!status && !has_state)
        status = fill_store(t);
    if (!status)
        status = dml_undo_open(&t->e, &t->undo);
    if (!status)
        status = settle(t, params, command);
    if (!status)
        status = dml_comm_broadcast(comm, &t->over, sizeof t->over);
    if (status || !leads(t))
        return status;
    if (t->folder.in_place && !has_state)
        dml_inform("%s: was left before its first state; the run starts over with its parameters",
                   t->folder.path);
    dml_inform("results: %s\n\n", t->folder.path);
    return t->over ? DML_OK : open_tracking(t, command);
}

static void close_trainer(struct trainer *t) {
    dml_run_evaluation_close(&t->evaluation);
    dml_undo_close(&t->undo);
    free(t->plan);
    dml_ranks_close(&t->ranks);
    free(t->gradient);
    free(t->values);
    cJSON_Delete(t->notes);
    dml_state_texts_free(&t->before);
    dml_experiment_close(&t->e);
    dml_run_folder_close(&t->folder);
}

/* Trains the remaining epochs. */
static enum dml_status train(struct trainer *t) {
    uint64_t epochs = (uint64_t)t->e.training->n_epochs;
    enum dml_status status = DML_OK;
    if (epochs == 0 && t->at.epoch == 0)
        status = finish_epoch(t);
    while (!status && t->at.epoch < epochs) {
        if (t->at.epoch_step < t->batches)
            status = train_epoch(t);
        if (!status && t->at.epoch_step == t->batches)
            status = finish_epoch(t);
        if (!status && stopped(t))
            status = dml_fail(DML_ERROR_INTERRUPTED, "interrupted after step %llu",
                              (unsigned long long)t->at.step);
    }
    return status;
}

/* If another rank is lost, rank 0 saves what it has first: mpirun may end it. */
static void rescue(struct trainer *t) {
    char *error = dml_strdup(dml_error());
    if (t->tracking && t->between && t->ranks.comm->lost >= 0)
        if (save_state(t) == DML_OK)
            dml_inform("the state after step %llu is saved", (unsigned long long)t->at.step);
    if (error)
        dml_fail(DML_ERROR_IO, "%s", error);
    free(error);
}

/* Saves the last state, then lets trackers write what they have at the end. */
static enum dml_status finish(struct trainer *t, enum dml_status status) {
    char *error = status ? dml_strdup(dml_error()) : NULL;
    if (!status || status == DML_ERROR_INTERRUPTED) {
        enum dml_status saved = save_state(t);
        if (saved) {
            free(error);
            error = dml_strdup(dml_error());
            status = saved;
        }
    }
    enum dml_run_end end = !status                           ? DML_RUN_FINISHED
                           : status == DML_ERROR_INTERRUPTED ? DML_RUN_INTERRUPTED
                                                             : DML_RUN_FAILED;
    enum dml_status closed = dml_tracking_close(t->tracking, end, error);
    if (!closed && end == DML_RUN_FINISHED)
        closed = dml_run_folder_finish(&t->folder, true, t->at.step);
    dml_inform("\nresults: %s", t->folder.path);
    if (error)
        dml_fail(status, "%s", error);
    free(error);
    return status ? status : closed;
}

/* --list_groups: shows what would learn, and how fast, instead of training. */
static enum dml_status list_groups(struct dml_params *params, const volatile sig_atomic_t *stop,
                                   struct dml_comm *comm) {
    struct dml_experiment e;
    enum dml_status status = dml_experiment_open(params, stop, comm, &e);
    if (status)
        return status;
    struct dml_stream stream;
    char *text = NULL;
    status = dml_stream_open(&stream);
    if (!status) {
        dml_groups_print(&e.learner.groups, e.network->graph, &e.learner.criterion, stream.file);
        status = dml_stream_close(&stream, &text);
    }
    if (!status)
        dml_tell_lines(DML_MESSAGE_INFO, text);
    free(text);
    dml_experiment_close(&e);
    return status;
}

enum dml_status dml_train(struct dml_params *params, const char *command,
                          const volatile sig_atomic_t *stop, struct dml_comm *comm, char **folder) {
    struct trainer t = {.stop = stop, .folder.lock.fd = -1, .ranks.comm = comm};
    const struct dml_group_flags *groups = dml_params_options(params, &dml_group_params);
    enum dml_status status = dml_train_name_csv(params);
    if (!status && groups->list_groups)
        return list_groups(params, stop, comm);
    if (!status)
        status = open_trainer(&t, params, command);
    if (!status && !t.over)
        status = train(&t);
    if (status)
        rescue(&t);
    status = dml_comm_fail(comm, status);
    if (t.tracking)
        status = finish(&t, status);
    if (folder && t.folder.path)
        *folder = dml_strdup(t.folder.path);
    close_trainer(&t);
    return status;
}
