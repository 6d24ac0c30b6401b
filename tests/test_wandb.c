#include "base/crc.h"
#include "base/files.h"
#include "base/memory.h"
#include "support/run_fixture.h"
#include "tracking/wandb_log.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

/* The bytes that W&B's client and TensorBoard read, read here without either: a reader of the
 * record log, of TFRecords and of Protocol Buffers' wire format, written from their documents. */

struct span {
    const unsigned char *data;
    size_t size;
};

/* ---- wire format ---- */

static uint64_t take_varint(struct span *in) {
    uint64_t value = 0;
    for (int shift = 0; in->size > 0; shift += 7) {
        unsigned char byte = *in->data++;
        in->size--;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    fail_msg("a varint is cut short");
    return 0;
}

/* The next field: its number, with `value` for integers and `content` for everything else. */
static int take_field(struct span *in, uint64_t *value, struct span *content) {
    static const size_t fixed[] = {0, 8, 0, 0, 0, 4};
    uint64_t tag = take_varint(in);
    if ((tag & 7) == 0) {
        *value = take_varint(in);
        return (int)(tag >> 3);
    }
    size_t size = (tag & 7) == 2 ? take_varint(in) : fixed[tag & 7];
    assert_true(size <= in->size);
    *content = (struct span){in->data, size};
    in->data += size;
    in->size -= size;
    return (int)(tag >> 3);
}

/* The n-th field `number` of a message. */
static bool find_field(struct span message, int number, int n, struct span *content,
                       uint64_t *value) {
    while (message.size > 0) {
        uint64_t integer = 0;
        struct span inside = {0};
        if (take_field(&message, &integer, &inside) == number && n-- == 0) {
            if (content)
                *content = inside;
            if (value)
                *value = integer;
            return true;
        }
    }
    return false;
}

static bool is_text(struct span span, const char *text) {
    return span.size == strlen(text) && memcmp(span.data, text, span.size) == 0;
}

/* ---- W&B's record log ---- */

struct records {
    struct span items[400];
    size_t count;
    bool cut; /* the last one ends in the middle */
};

static void free_records(struct records *records) {
    for (size_t i = 0; i < records->count; i++)
        free((void *)records->items[i].data);
}

static void parse_log(const unsigned char *data, size_t size, struct records *out) {
    size_t at = 7;
    unsigned char *record = NULL;
    size_t length = 0;
    memset(out, 0, sizeof *out);
    assert_memory_equal(data, ":W&B\xE1\xBE\0", 7);
    while (at < size) {
        size_t room = DML_WANDB_BLOCK - at % DML_WANDB_BLOCK;
        if (room < 7) {
            for (size_t i = 0; i < room; i++)
                assert_int_equal(data[at + i], 0);
            at += room;
            continue;
        }
        uint32_t crc;
        uint16_t piece;
        if (at + 7 > size)
            break;
        memcpy(&crc, data + at, 4);
        memcpy(&piece, data + at + 4, 2);
        unsigned char kind = data[at + 6];
        assert_true(piece + 7u <= room);
        if (at + 7 + piece > size)
            break;
        assert_int_equal(crc, crc32(0, data + at + 6, piece + 1u));
        assert_true(kind >= 1 && kind <= 4);
        assert_int_equal(kind == 1 || kind == 2, record == NULL);
        record = realloc(record, length + piece + 1);
        memcpy(record + length, data + at + 7, piece);
        length += piece;
        at += 7u + piece;
        if (kind == 1 || kind == 4) {
            out->items[out->count++] = (struct span){record, length};
            record = NULL;
            length = 0;
        }
    }
    out->cut = at < size || record != NULL;
    free(record);
}

static void read_log(const char *path, struct records *out) {
    char *data;
    size_t size;
    assert_ok(dml_read_file(path, &data, &size));
    parse_log((unsigned char *)data, size, out);
    free(data);
}

/* Records of every length around the ends of blocks, and longer than blocks. */
static void test_records_cross_blocks(void **state) {
    (void)state;
    char *path = dml_path_join(save_path, "run.wandb");
    struct dml_wandb_log log;
    assert_ok(dml_wandb_log_open(&log, path));
    unsigned char *big = dml_alloc(100000, 1);
    for (size_t i = 0; i < 100000; i++)
        big[i] = (unsigned char)(i * 7 + i / 256);
    size_t sizes[100], count = 0;
    for (size_t left = 0; left < 16; left++) {
        /* Fills the block until `left` bytes remain, then a record meets them. */
        size_t room = DML_WANDB_BLOCK - (size_t)log.size % DML_WANDB_BLOCK;
        sizes[count] = room - 7 - left;
        assert_ok(dml_wandb_log_add(&log, big, sizes[count++]));
        assert_int_equal((DML_WANDB_BLOCK - (size_t)log.size % DML_WANDB_BLOCK) % DML_WANDB_BLOCK,
                         left);
        sizes[count] = left * 3;
        assert_ok(dml_wandb_log_add(&log, big, sizes[count++]));
    }
    sizes[count] = 100000;
    assert_ok(dml_wandb_log_add(&log, big, sizes[count++]));
    assert_int_equal(dml_wandb_log_open(&(struct dml_wandb_log){0}, path), DML_ERROR_IO);
    dml_wandb_log_close(&log);
    struct records records;
    read_log(path, &records);
    assert_false(records.cut);
    assert_int_equal(records.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(records.items[i].size, sizes[i]);
        assert_memory_equal(records.items[i].data, big, sizes[i]);
    }
    free_records(&records);
    free(big);
    free(path);
}

/* The file of the only offline run below the save path; free() it. */
static char *offline_run(void) {
    char *folder = dml_path_join(save_path, "wandb"), *path = NULL;
    DIR *runs = opendir(folder);
    assert_non_null(runs);
    for (struct dirent *entry; (entry = readdir(runs));)
        if (strncmp(entry->d_name, "offline-run-", 12) == 0) {
            assert_null(path);
            const char *id = strrchr(entry->d_name, '-') + 1;
            assert_int_equal(strlen(id), 8);
            path = dml_format("%s/%s/run-%s.wandb", folder, entry->d_name, id);
        }
    closedir(runs);
    free(folder);
    return path;
}

/* The JSON text of `key` (and `below`) in a history, summary or config; free() it. */
static char *item_value(struct span record, int field, const char *key, const char *below) {
    struct span content, item, name;
    if (!find_field(record, field, 0, &content, NULL))
        return NULL;
    for (int i = 0; find_field(content, 1, i, &item, NULL); i++) {
        bool found = (find_field(item, 2, 0, &name, NULL) || find_field(item, 1, 0, &name, NULL)) &&
                     is_text(name, key);
        if (found && below)
            found = find_field(item, 2, 1, &name, NULL) && is_text(name, below);
        if (!found)
            continue;
        assert_true(find_field(item, 16, 0, &name, NULL));
        return dml_format("%.*s", (int)name.size, (const char *)name.data);
    }
    return NULL;
}

static void assert_item(struct span record, int field, const char *key, const char *below,
                        double value) {
    char *text = item_value(record, field, key, below);
    if (!text)
        fail_msg("%s is missing", key);
    if (strtod(text, NULL) != value)
        fail_msg("%s is %s, not %.17g", key, text, value);
    free(text);
}

/* Everything that was logged in epoch `epoch`. */
static void assert_epoch(struct span record, int field, uint64_t epoch) {
    double rms = 0, max = 0, unheard = 0;
    struct step_fixture step;
    for (uint64_t s = epoch * 10; s < epoch * 10 + 10; s++) {
        a_step(&step, s);
        rms += step.values[0].value;
        max += step.values[1].value;
        unheard += step.values[4].value;
    }
    assert_item(record, field, "_step", NULL, (double)epoch);
    assert_item(record, field, "Train: epochs", NULL, (double)epoch);
    assert_item(record, field, "Train: loss", NULL, 1.0 / (double)(epoch + 1));
    assert_item(record, field, "Train: time", NULL, 2);
    assert_item(record, field, "Train: never heard of", NULL, 7);
    assert_item(record, field, "Model Grad: L2: Grad L2", NULL, rms / 10);
    assert_item(record, field, "Model Grad: Max: Grad Max", NULL, max / 10);
    assert_item(record, field, "Train: step_unheard of", NULL, unheard / 10);
    assert_item(record, field, "Test: discriminative_e_recall: e_recall@1", NULL,
                fixture_recall(epoch, 0));
    assert_item(record, field, "Train: discriminative_nmi: nmi", NULL, fixture_value(epoch, 1, 3));
    char *counts = item_value(record, field, "Train: discriminative_rho_spectrum@0", "values");
    assert_memory_equal(counts, "[0.5,0.3", 8);
    free(counts);
    char *bins = item_value(record, field, "Train: discriminative_rho_spectrum@0", "bins");
    assert_string_equal(bins, "[0,1,2,3]");
    free(bins);
    counts = item_value(record, field, "Test: discriminative_LOG-rho_spectrum@0", "values");
    assert_true(fabs(strtod(counts + 1, NULL) - (log(0.5) + 20)) < 1e-12);
    free(counts);
}

static void test_every_value_of_a_finished_run(void **state) {
    (void)state;
    struct fixture fixture;
    struct epoch_fixture epoch;
    void *wandb;
    setenv("WANDB_API_KEY", "a-secret-key-0123456789", 1);
    struct dml_run *run = make_run(&fixture, 0);
    char *path_before = dml_strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1); /* nothing is sent from a test */
    assert_ok(dml_tracker_wandb.open(run, &wandb));
    for (uint64_t e = 0; e < 4; e++) {
        for (uint64_t s = e * 10; s < e * 10 + 10; s++) {
            struct step_fixture step;
            assert_ok(dml_tracker_wandb.step(wandb, a_step(&step, s)));
        }
        assert_ok(dml_tracker_wandb.epoch(wandb, an_epoch(&epoch, e)));
    }
    assert_ok(dml_tracker_wandb.close(wandb, DML_RUN_FINISHED, NULL));
    setenv("PATH", path_before, 1);
    free(path_before);
    unsetenv("WANDB_API_KEY");
    char *path = offline_run();
    struct records records;
    read_log(path, &records);
    assert_false(records.cut);
    assert_int_equal(records.count, 2 + 2 * 4 + 1);
    for (size_t i = 0; i < records.count; i++) {
        uint64_t number = 0;
        assert_true(find_field(records.items[i], 1, 0, NULL, &number));
        assert_int_equal(number, i + 1);
        assert_null(memmem(records.items[i].data, records.items[i].size, "secret", 6));
    }
    struct span content, text;
    assert_true(find_field(records.items[0], 21, 0, NULL, NULL));
    assert_true(find_field(records.items[1], 17, 0, &content, NULL));
    assert_true(find_field(content, 3, 0, &text, NULL) && is_text(text, "project"));
    assert_true(find_field(content, 6, 0, &text, NULL) && is_text(text, "group"));
    assert_true(find_field(content, 8, 0, &text, NULL) && is_text(text, "group_s0"));
    for (uint64_t e = 0; e < 4; e++) {
        assert_epoch(records.items[2 + 2 * e], 3, e);
        assert_epoch(records.items[3 + 2 * e], 2, e);
        uint64_t step = 99;
        assert_true(find_field(records.items[3 + 2 * e], 2, 0, &content, NULL));
        assert_true(find_field(content, 2, 0, &text, NULL) && find_field(text, 1, 0, NULL, &step) &&
                    step == e);
    }
    uint64_t code = 99;
    assert_true(find_field(records.items[10], 18, 0, &content, NULL) &&
                find_field(content, 1, 0, NULL, &code) && code == 0);
    free_records(&records);
    free(path);
}

static struct dml_tracking *open_online(const struct dml_run *run) {
    struct dml_tracking_options options = {
        .log_online = true, .tensorboard = true, .no_plots = true};
    struct dml_tracking *tracking;
    assert_ok(dml_tracking_open(run, &options, &tracking));
    return tracking;
}

static char *event_file(const char *folder) {
    DIR *files = opendir(folder);
    char *path = NULL;
    assert_non_null(files);
    for (struct dirent *entry; (entry = readdir(files));)
        if (strncmp(entry->d_name, "events.out.tfevents.", 20) == 0)
            path = dml_path_join(folder, entry->d_name);
    closedir(files);
    assert_non_null(path);
    return path;
}

/* ---- TensorBoard's records ---- */

static uint32_t unmask(uint32_t masked) {
    uint32_t rotated = masked - 0xA282EAD8u;
    return rotated >> 17 | rotated << 15;
}

static void read_events(const char *path, struct records *out) {
    char *data;
    size_t size;
    assert_ok(dml_read_file(path, &data, &size));
    memset(out, 0, sizeof *out);
    for (size_t at = 0; at < size;) {
        uint64_t length;
        uint32_t length_crc, crc;
        assert_true(at + 16 <= size);
        memcpy(&length, data + at, 8);
        memcpy(&length_crc, data + at + 8, 4);
        assert_int_equal(unmask(length_crc), dml_crc32c(0, data + at, 8));
        assert_true(at + 16 + length <= size);
        memcpy(&crc, data + at + 12 + length, 4);
        assert_int_equal(unmask(crc), dml_crc32c(0, data + at + 12, length));
        unsigned char *copy = dml_alloc(length, 1);
        memcpy(copy, data + at + 12, length);
        out->items[out->count++] = (struct span){copy, length};
        at += 16 + length;
    }
    free(data);
}

/* The value called `tag` in the event of `step`. */
static bool find_value(const struct records *events, const char *tag, uint64_t step,
                       struct span *out) {
    for (size_t i = 0; i < events->count; i++) {
        struct span summary, name;
        uint64_t at = 0;
        find_field(events->items[i], 2, 0, NULL, &at);
        if (at != step || !find_field(events->items[i], 5, 0, &summary, NULL))
            continue;
        for (int v = 0; find_field(summary, 1, v, out, NULL); v++)
            if (find_field(*out, 1, 0, &name, NULL) && is_text(name, tag))
                return true;
    }
    return false;
}

static float scalar(const struct records *events, const char *tag, uint64_t step) {
    struct span value, bits;
    float number;
    if (!find_value(events, tag, step, &value) || !find_field(value, 2, 0, &bits, NULL))
        fail_msg("%s of step %d is missing", tag, (int)step);
    memcpy(&number, bits.data, sizeof number);
    return number;
}

static void assert_events(const struct records *events, uint64_t epochs) {
    struct span value, histogram, text;
    struct step_fixture step;
    for (uint64_t s = 0; s < epochs * 10; s++) {
        a_step(&step, s);
        assert_true(scalar(events, "Train/step_loss", s) == (float)step.record.loss);
        assert_true(scalar(events, "Model Grad/Max", s) == (float)step.values[1].value);
        assert_true(scalar(events, "Train/step_unheard of", s) == (float)step.values[4].value);
    }
    for (uint64_t e = 0; e < epochs; e++) {
        assert_true(scalar(events, "Test/e_recall@1", e) == (float)fixture_recall(e, 0));
        assert_true(scalar(events, "Train/loss", e) == (float)(1.0 / (double)(e + 1)));
        assert_true(scalar(events, "Train/never heard of", e) == 7);
        assert_true(find_value(events, "Test/rho_spectrum@0", e, &value));
        assert_true(find_field(value, 5, 0, &histogram, NULL));
        assert_true(find_field(histogram, 7, 0, &text, NULL));
        assert_int_equal(text.size, 3 * sizeof(double));
        double counts[3];
        memcpy(counts, text.data, sizeof counts);
        assert_true(counts[0] == 0.5 && (float)counts[1] == 0.3f);
    }
    assert_true(find_field(events->items[0], 3, 0, &text, NULL) && is_text(text, "brain.Event:2"));
}

/* CRC-32C of "123456789" is in every table of such sums. */
static void test_crc32c(void **state) {
    (void)state;
    assert_int_equal(dml_crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(dml_crc32c(dml_crc32c(0, "1234", 4), "56789", 5), 0xE3069283u);
}

/* A process that is killed leaves every record up to then, and whole ones. */
static void test_a_killed_run(void **state) {
    (void)state;
    struct fixture fixture;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        write_epochs(open_online(make_run(&fixture, 0)), 0, 3);
        raise(SIGKILL);
    }
    int result;
    waitpid(child, &result, 0);
    assert_true(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL);
    make_run(&fixture, 0);
    char *path = offline_run();
    struct records records;
    read_log(path, &records);
    assert_false(records.cut);
    assert_int_equal(records.count, 2 + 2 * 3);
    for (uint64_t e = 0; e < 3; e++)
        assert_epoch(records.items[3 + 2 * e], 2, e);
    free_records(&records);
    free(path);
    path = event_file(fixture.folder);
    read_events(path, &records);
    assert_events(&records, 3);
    free_records(&records);
    free(path);
}

static void test_events_and_images(void **state) {
    (void)state;
    struct fixture fixture;
    struct epoch_fixture epoch;
    void *board;
    /* The first bytes of a PNG of 300 x 200; what follows is not looked at. */
    const unsigned char png[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0,   0, 13, 'I', 'H',
                                 'D',  'R', 0,   0,   1,  44, 0,  0,  0, 200, 8, 2,  0,   0};
    char *picture = dml_path_join(save_path, "picture.png");
    assert_ok(dml_write_file(picture, png, sizeof png));
    assert_ok(dml_tracker_tensorboard.open(make_run(&fixture, 0), &board));
    for (uint64_t s = 0; s < 10; s++) {
        struct step_fixture step;
        assert_ok(dml_tracker_tensorboard.step(board, a_step(&step, s)));
    }
    an_epoch(&epoch, 0);
    epoch.record.contact_sheet = picture;
    assert_ok(dml_tracker_tensorboard.epoch(board, &epoch.record));
    assert_ok(dml_tracker_tensorboard.close(board, DML_RUN_FINISHED, NULL));
    char *path = event_file(fixture.folder);
    struct records events;
    struct span value, image, content;
    read_events(path, &events);
    assert_events(&events, 1);
    assert_true(find_value(&events, "sample_recoveries", 0, &value));
    assert_true(find_field(value, 4, 0, &image, NULL));
    uint64_t height = 0, width = 0;
    assert_true(find_field(image, 1, 0, NULL, &height) && height == 200);
    assert_true(find_field(image, 2, 0, NULL, &width) && width == 300);
    assert_true(find_field(image, 4, 0, &content, NULL) && content.size == sizeof png);
    assert_memory_equal(content.data, png, sizeof png);
    free_records(&events);
    free(path);
    free(picture);
}

/* Stopped within an epoch, the means over the epoch are still those of all its steps. With `old`
 * the state is one of before sums had a list of their own. */
static void stop_within_an_epoch(int number, bool old) {
    struct fixture fixture;
    struct step_fixture step;
    struct epoch_fixture epoch;
    void *wandb;
    struct dml_run *run = make_run(&fixture, number);
    cJSON *notes = cJSON_CreateObject(), *note = cJSON_AddObjectToObject(notes, "W&B");
    run->identity = old ? "old" : "new";
    assert_ok(dml_tracker_wandb.open(run, &wandb));
    for (uint64_t s = 0; s < 4; s++)
        assert_ok(dml_tracker_wandb.step(wandb, a_step(&step, s)));
    assert_ok(dml_tracker_wandb.sync(wandb, note));
    char *path_before = dml_strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1); /* nothing is sent from a test */
    assert_ok(dml_tracker_wandb.close(wandb, DML_RUN_INTERRUPTED, NULL));
    if (old) {
        cJSON *sums = cJSON_DetachItemFromObject(note, "sums");
        cJSON_AddItemToObject(note, "grad_rms", cJSON_DetachItemFromObject(sums, "grad_rms"));
        cJSON_AddItemToObject(note, "grad_max", cJSON_DetachItemFromObject(sums, "grad_max"));
        cJSON_Delete(sums);
    }
    char *text = cJSON_PrintUnformatted(notes); /* as it lies in a state */
    cJSON_Delete(notes);
    run->resumed = true;
    run->notes = notes = cJSON_Parse(text);
    free(text);
    assert_ok(dml_tracker_wandb.open(run, &wandb));
    for (uint64_t s = 4; s < 10; s++)
        assert_ok(dml_tracker_wandb.step(wandb, a_step(&step, s)));
    assert_ok(dml_tracker_wandb.epoch(wandb, an_epoch(&epoch, 0)));
    assert_ok(dml_tracker_wandb.close(wandb, DML_RUN_FINISHED, NULL));
    setenv("PATH", path_before, 1);
    free(path_before);
    cJSON_Delete(notes);
}

static void test_a_run_stopped_within_an_epoch(void **state) {
    (void)state;
    for (int old = 0; old < 2; old++) {
        stop_within_an_epoch(old, old);
        char *path = offline_run(), *folder = dml_path_join(save_path, "wandb");
        struct records records;
        read_log(path, &records);
        struct span last = records.items[records.count - 2]; /* before exit: history */
        if (old) { /* what it knew is there; of the rest the mean is unknown */
            char *text = item_value(last, 2, "Train: step_unheard of", NULL);
            assert_string_equal(text, "NaN");
            free(text);
            assert_item(last, 2, "Model Grad: Max: Grad Max", NULL, 7 + 4.5);
        } else
            assert_epoch(last, 2, 0);
        free_records(&records);
        free(path);
        char *command = dml_format("rm -rf '%s'", folder);
        assert_int_equal(system(command), 0);
        free(command);
        free(folder);
    }
}

/* A full disk, played by a limit on the size of files: the record that does not fit is taken back
 * whole, and one that fits later is read after the ones before. */
static void test_a_full_disk(void **state) {
    (void)state;
    char *path = dml_path_join(save_path, "run.wandb");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct dml_wandb_log log;
        struct rlimit limit;
        char record[3000] = "record";
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &limit);
        bool fine = dml_wandb_log_open(&log, path) == DML_OK &&
                    dml_wandb_log_add(&log, record, sizeof record) == DML_OK;
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){5000, limit.rlim_max});
        fine = fine && dml_wandb_log_add(&log, record, sizeof record) == DML_ERROR_IO &&
               strstr(dml_error(), "run.wandb: cannot be written") != NULL;
        setrlimit(RLIMIT_FSIZE, &limit);
        fine = fine && dml_wandb_log_add(&log, record, 100) == DML_OK;
        _exit(!fine);
    }
    int result;
    waitpid(child, &result, 0);
    assert_int_equal(result, 0);
    struct records records;
    read_log(path, &records);
    assert_false(records.cut);
    assert_int_equal(records.count, 2);
    assert_int_equal(records.items[1].size, 100);
    free_records(&records);
    free(path);
}

static void test_a_place_that_cannot_be_written(void **state) {
    (void)state;
    struct fixture fixture;
    void *wandb;
    make_run(&fixture, 0);
    char *blocker = dml_path_join(save_path, "wandb");
    assert_ok(dml_write_file(blocker, "x", 1));
    assert_int_equal(dml_tracker_wandb.open(&fixture.run, &wandb), DML_ERROR_IO);
    assert_non_null(strstr(dml_error(), "wandb: is not a folder"));
    free(blocker);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_records_cross_blocks),
        TEST(test_every_value_of_a_finished_run),
        TEST(test_a_run_stopped_within_an_epoch),
        TEST(test_crc32c),
        TEST(test_a_killed_run),
        TEST(test_events_and_images),
        TEST(test_a_place_that_cannot_be_written),
        TEST(test_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
