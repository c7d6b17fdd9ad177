// layer_bf16.cpp compiled with FASTRNN_AMX: an object of its own.
#include "layer_bf16.cpp"
