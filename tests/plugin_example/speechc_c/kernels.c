#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ROOM(n) (((n) + 15) / 16 * 16)

static inline int minimum(int a, int b) { return a < b ? a : b; }
static inline int maximum(int a, int b) { return a > b ? a : b; }
static inline int floordiv(int a, int b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

/* y[rows, outputs] = x[rows, inputs] w[outputs, inputs]^T + b[outputs]; b may be 0, here and below */
static inline void linear(int rows, int inputs, int outputs, const float *x, const float *w, const float *b, float *y) {
  for (int i = 0; i < rows; i++)
    for (int o = 0; o < outputs; o++) {
      float s = b ? b[o] : 0;
      for (int k = 0; k < inputs; k++) s += x[i * inputs + k] * w[o * inputs + k];
      y[i * outputs + o] = s;
    }
}

/* y[batch, outputs, frames] of x[batch, groups * each, length] and w[outputs, each, taps]; zeros outside of x */
static inline void conv(int batch, int groups, int each, int length, int outputs, int frames, int taps, int stride,
                        int dilation, int pad, const float *x, const float *w, const float *b, float *y) {
  for (int n = 0; n < batch; n++)
    for (int o = 0; o < outputs; o++)
      for (int t = 0; t < frames; t++) {
        const float *in = x + (n * groups + o / (outputs / groups)) * each * length;
        float s = b ? b[o] : 0;
        for (int k = 0; k < taps; k++) {
          int u = t * stride + k * dilation - pad;
          if (u < 0 || u >= length) continue;
          for (int j = 0; j < each; j++) s += in[j * length + u] * w[(o * each + j) * taps + k];
        }
        y[(n * outputs + o) * frames + t] = s;
      }
}

/* along the middle one of [outer, size, inner]; a line of only -infinity gives zeros */
static inline void softmax(int outer, int size, int inner, const float *x, float *y) {
  for (int i = 0; i < outer; i++)
    for (int j = 0; j < inner; j++) {
      const float *in = x + i * size * inner + j;
      float *out = y + i * size * inner + j, top = -INFINITY, sum = 0;
      for (int k = 0; k < size; k++) top = in[k * inner] > top ? in[k * inner] : top;
      for (int k = 0; k < size; k++) sum += out[k * inner] = top == -INFINITY ? 0 : expf(in[k * inner] - top);
      for (int k = 0; k < size; k++) out[k * inner] /= sum == 0 ? 1 : sum;
    }
}

static inline float row(int n, const float *w, const float *x, const float *b, int at) {
  float s = b ? b[at] : 0;
  for (int k = 0; k < n; k++) s += w[at * n + k] * x[k];
  return s;
}

static inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* gates in PyTorch's order: reset, update, new; x[batch, frames, inputs], y[batch, frames, size], last[batch, size] */
static inline void gru(int batch, int frames, int inputs, int size, const float *x, const float *h, const float *w,
                       const float *r, const float *b, const float *rb, float *y, float *last) {
  for (int n = 0; n < batch; n++) {
    const float *before = h + n * size;
    for (int t = 0; t < frames; t++) {
      const float *in = x + (n * frames + t) * inputs;
      float *out = y + (n * frames + t) * size;
      for (int j = 0; j < size; j++) {
        float reset = sigmoid(row(inputs, w, in, b, j) + row(size, r, before, rb, j));
        float update = sigmoid(row(inputs, w, in, b, size + j) + row(size, r, before, rb, size + j));
        float new = tanhf(row(inputs, w, in, b, 2 * size + j) + reset * row(size, r, before, rb, 2 * size + j));
        out[j] = (1 - update) * new + update * before[j];
      }
      before = out;
    }
    memcpy(last + n * size, before, sizeof(float) * size);
  }
}
