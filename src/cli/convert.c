#include "cli/cli.h"

#include "nn/weights/tensors.h"

static const char usage[] =
    "usage: dml convert IN OUT\n"
    "\n"
    "Writes the tensors of a weight file in another format.\n"
    "\n"
    "  IN   safetensors, or what torch.save writes (zip or its older format); told apart by\n"
    "       content. A state dict is found under `state_dict`, `model_state_dict`, `model`,\n"
    "       `teacher` and other such wrappers; `module.`, `_orig_mod.`, `backbone.`\n"
    "       and the like are taken off names. Nothing in the file is executed.\n"
    "  OUT  NAME.safetensors, or NAME.pth or NAME.pt for torch.load(weights_only=True).\n"
    "\n"
    "Types and values stay as they are; a checkpoint's parameters are kept in both directions.\n";

static enum dml_status convert(const char *in, const char *out) {
    struct dml_tensors tensors;
    enum dml_status status = dml_tensors_read(in, &tensors);
    if (status)
        return status;
    status = dml_tensors_write(out, &tensors);
    if (!status) {
        size_t elements = 0;
        for (size_t i = 0; i < tensors.count; i++)
            elements += tensors.items[i].count;
        dml_cli_print("%s: %zu tensors, %zu values\n", out, tensors.count, elements);
        if (tensors.remark)
            dml_cli_print("%s: %s\n", in, tensors.remark);
    }
    dml_tensors_free(&tensors);
    return status;
}

int dml_convert_main(int argc, char **argv) {
    if (dml_cli_wants_help(argc, argv)) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc != 3 || argv[1][0] == '-' || argv[2][0] == '-') {
        fputs(usage, stderr);
        return 2;
    }
    return dml_cli_finish("convert", convert(argv[1], argv[2]));
}
