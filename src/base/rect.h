#ifndef DML_BASE_RECT_H
#define DML_BASE_RECT_H

/* A rectangle of an image, in pixels. */
struct dml_rect {
    int left, top, width, height;
};

#endif
