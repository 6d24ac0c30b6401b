#include "nn/weights/pickle.h"

#include <string.h>

/* What torch.load(weights_only=True) allows, and values without meaning here that training scripts
 * leave beside their weights: none is ever called, so that they can be passed over. */
static const struct {
    const char *module, *names; /* separated by spaces */
    enum dml_pickle_global which;
} globals[] = {
    {"collections", "OrderedDict Counter defaultdict", DML_PICKLE_MAPPING},
    {"builtins", "dict", DML_PICKLE_MAPPING},
    {"torch._utils", "_rebuild_tensor _rebuild_tensor_v2", DML_PICKLE_REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter _rebuild_parameter_with_state",
     DML_PICKLE_REBUILD_PARAMETER},
    {"torch.nn.parameter", "Parameter Buffer", DML_PICKLE_REBUILD_PARAMETER},
    {"torch._tensor", "_rebuild_from_type_v2", DML_PICKLE_REBUILD_FROM_TYPE},
    {"torch._utils",
     "_rebuild_tensor_v3 _rebuild_qtensor _rebuild_sparse_tensor _rebuild_sparse_csr_tensor "
     "_rebuild_nested_tensor _rebuild_meta_tensor_no_storage _rebuild_wrapper_subclass "
     "_rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor",
     DML_PICKLE_REBUILD_FOREIGN},
    {"torch",
     "DoubleStorage FloatStorage HalfStorage BFloat16Storage LongStorage IntStorage ShortStorage "
     "CharStorage ByteStorage BoolStorage ComplexDoubleStorage ComplexFloatStorage "
     "QUInt8Storage QInt8Storage QInt32Storage QUInt4x2Storage QUInt2x4Storage UntypedStorage",
     DML_PICKLE_STORAGE_TYPE},
    {"torch.storage", "UntypedStorage", DML_PICKLE_STORAGE_TYPE},
    {"torch",
     "Tensor DoubleTensor FloatTensor HalfTensor BFloat16Tensor LongTensor IntTensor ShortTensor "
     "CharTensor ByteTensor BoolTensor Size device dtype "
     "float64 float32 float16 bfloat16 double float half int64 int32 int16 int8 uint8 uint16 "
     "uint32 uint64 long int short bool complex32 complex64 complex128 chalf cfloat cdouble "
     "quint8 qint8 qint32 quint4x2 quint2x4 bits1x8 bits2x4 bits4x2 bits8 bits16 "
     "uint1 uint2 uint3 uint4 uint5 uint6 uint7 int1 int2 int3 int4 int5 int6 int7 "
     "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 "
     "per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric "
     "per_channel_affine_float_qparams strided sparse_coo contiguous_format channels_last "
     "preserve_format",
     DML_PICKLE_VALUE},
    {"torch.serialization", "_get_layout", DML_PICKLE_VALUE},
    {"_codecs", "encode", DML_PICKLE_VALUE},
    {"builtins",
     "set frozenset bytearray complex list tuple int float bool str bytes slice range object",
     DML_PICKLE_VALUE},
    {"argparse", "Namespace", DML_PICKLE_VALUE},
    {"types", "SimpleNamespace", DML_PICKLE_VALUE},
    {"pathlib", "Path PosixPath PurePosixPath WindowsPath PureWindowsPath", DML_PICKLE_VALUE},
    {"datetime", "datetime timedelta date", DML_PICKLE_VALUE},
    {"numpy", "dtype ndarray bool_ float16 float32 float64 int32 int64", DML_PICKLE_VALUE},
    {"numpy.core.multiarray", "scalar _reconstruct", DML_PICKLE_VALUE},
    {"numpy._core.multiarray", "scalar _reconstruct", DML_PICKLE_VALUE},
};

static bool same(const char *bytes, size_t length, const char *text) {
    return strlen(text) == length && memcmp(bytes, text, length) == 0;
}

/* The entry of a list of names that equals the bytes, or NULL. */
static const char *find_name(const char *names, const char *bytes, size_t length) {
    while (*names) {
        size_t next = strcspn(names, " ");
        if (next == length && memcmp(names, bytes, length) == 0)
            return names;
        names += next + (names[next] == ' ');
    }
    return NULL;
}

bool dml_pickle_global_find(const char *module, size_t module_length, const char *name,
                            size_t name_length, struct dml_pickle_value *out) {
    /* Python 2's name, which protocol 2 still writes */
    bool builtin = same(module, module_length, "__builtin__");
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (!same(module, module_length, globals[i].module) &&
            !(builtin && strcmp(globals[i].module, "builtins") == 0))
            continue;
        const char *found = find_name(globals[i].names, name, name_length);
        if (!found)
            continue;
        out->kind = DML_PICKLE_GLOBAL;
        out->global.which = globals[i].which;
        out->global.name = found;
        out->global.length = name_length;
        return true;
    }
    return false;
}
