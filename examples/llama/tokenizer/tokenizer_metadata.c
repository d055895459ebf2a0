#include "tokenizer/tokenizer_metadata.h"

bool metadata_value(const disco_weights *model, const char *key, json_t **ret_value) {
  *ret_value = NULL;
  const char *text = disco_weights_metadata(model, key);
  if (text == NULL) return true;
  json_error_t error;
  *ret_value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
  if (*ret_value != NULL) return true;
  return refuse(DISCO_VALUE, "%s of the model cannot be read: %s", key,
                error.text[0] != '\0' ? error.text : "no memory");
}

static bool require(const disco_weights *model, const char *key, json_t **ret_value) {
  if (!metadata_value(model, key, ret_value)) return false;
  return *ret_value != NULL || refuse(DISCO_VALUE, "the model has no %s, so there is no tokeniser in it", key);
}

/* Let go of a value that is not what it should be. */
static bool let_go(json_t **value) {
  json_decref(*value);
  *value = NULL;
  return false;
}

bool metadata_string(const disco_weights *model, const char *key, json_t **ret_value) {
  if (!require(model, key, ret_value)) return false;
  if (json_is_string(*ret_value)) return true;
  (void)refuse(DISCO_VALUE, "%s of the model is no string", key);
  return let_go(ret_value);
}

bool metadata_list(const disco_weights *model, const char *key, json_type kind, json_t **ret_value) {
  if (!require(model, key, ret_value)) return false;
  if (!json_is_array(*ret_value)) {
    (void)refuse(DISCO_VALUE, "%s of the model is no list", key);
    return let_go(ret_value);
  }
  size_t i;
  const json_t *element;
  json_array_foreach(*ret_value, i, element) if (json_typeof(element) != kind) {
    (void)refuse(DISCO_VALUE, "%s[%zu] of the model is no %s", key, i, kind == JSON_STRING ? "string" : "integer");
    return let_go(ret_value);
  }
  return true;
}

bool metadata_id(const disco_weights *model, const char *key, int32_t count, int32_t *ret_id) {
  json_t *value;
  if (!metadata_value(model, key, &value)) return false;
  bool good = true;
  *ret_id = -1;
  if (value != NULL && !json_is_integer(value))
    good = refuse(DISCO_VALUE, "%s of the model is no integer", key);
  else if (value != NULL && (json_integer_value(value) < 0 || json_integer_value(value) >= count))
    good = refuse(DISCO_VALUE, "%s of the model is %lld, but tokenizer.ggml.tokens has %d tokens", key,
                  (long long)json_integer_value(value), (int)count);
  else if (value != NULL)
    *ret_id = (int32_t)json_integer_value(value);
  json_decref(value);
  return good;
}

bool metadata_flag(const disco_weights *model, const char *key, bool *ret_flag) {
  json_t *value;
  if (!metadata_value(model, key, &value)) return false;
  const bool good =
      value == NULL || json_is_boolean(value) || refuse(DISCO_VALUE, "%s of the model is no boolean", key);
  *ret_flag = json_is_true(value);
  json_decref(value);
  return good;
}
