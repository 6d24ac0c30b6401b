#include "data/layouts/layouts.h"

#include <string.h>

/* Each layout has its file, NAME.c, which defines dml_layout_NAME. */
extern const struct dml_layout_kind dml_layout_online_products, dml_layout_cub200,
    dml_layout_cars196, dml_layout_in_shop, dml_layout_inaturalist, dml_layout_vehicle_id,
    dml_layout_split_folders;

/* In the order in which they are tried: a folder of folders fits nearly everything. */
static const struct dml_layout_kind *const kinds[] = {
    &dml_layout_online_products, &dml_layout_cub200,      &dml_layout_cars196,
    &dml_layout_in_shop,         &dml_layout_inaturalist, &dml_layout_vehicle_id,
    &dml_layout_split_folders,   &dml_layout_folders,
};
enum { COUNT = sizeof kinds / sizeof *kinds };

const struct dml_layout_kind *dml_layout_at(size_t i) {
    return i < COUNT ? kinds[i] : NULL;
}

const struct dml_layout_kind *dml_layout_of(const char *folder, const char *dataset) {
    for (size_t i = 0; i < COUNT; i++)
        if (kinds[i]->named && strstr(dataset, kinds[i]->named))
            return kinds[i];
    for (size_t i = 0; i < COUNT; i++)
        if (kinds[i]->detect(folder))
            return kinds[i];
    return NULL;
}
