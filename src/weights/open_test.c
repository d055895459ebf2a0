/* What a path is taken for. The files are written here, as small as they can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "weights/model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char folder[64];

static const char *path_of(const char *name) {
  static char path[512];
  (void)snprintf(path, sizeof(path), "%s%s%s", folder, name[0] != '\0' ? "/" : "", name);
  return path;
}

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

typedef struct {
  const char *bytes;
  size_t size;
} content;

#define CONTENT(text) \
  { text, sizeof(text) - 1 }

static const content safetensors = CONTENT("\x02\0\0\0\0\0\0\0{}");
static const content one_tensor =
    CONTENT("\x34\0\0\0\0\0\0\0{\"t\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1]}}x");
static const content stray_index = CONTENT("{\"weight_map\": {\"t\": \"part.safetensors\"}}");
static const content cache = CONTENT(" \n{\"records\": [], \"metadata\": 1}");
static const content gguf = CONTENT("GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");

static void put(const char *name, content what) {
  FILE *file = fopen(path_of(name), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(what.bytes, 1, what.size, file), what.size);
  assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state) {
  (void)state;
  (void)snprintf(folder, sizeof(folder), "/tmp/disco-open-XXXXXX");
  return mkdtemp(folder) != NULL ? 0 : -1;
}

static const char *const names[] = {
    "tensor-cache.json",
    "ndarray-cache.json",
    "model.safetensors.index.json",
    "model.safetensors",
    "a.gguf",
    "b.gguf",
    "part.safetensors",
    "z.safetensors",
    "params_0.bin",
    "config.json",
    "it",
};

static void empty_folder(void) {
  for (size_t i = 0; i < COUNT(names); i++) (void)unlink(path_of(names[i]));
}

static int remove_folder(void **state) {
  (void)state;
  empty_folder();
  return rmdir(folder);
}

/* Opens `name` of the folder, and says which format and how many tensors. */
static void expect_opens(const char *name, const char *format, int64_t tensors) {
  disco_weights *model = NULL;
  if (dsc_model_open(path_of(name), &model) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_string_equal(dsc_model_format(model), format);
  assert_int_equal(dsc_model_count(model), tensors);
  dsc_model_destroy(model);
}

static void expect_refused(const char *name, disco_status status, const char *words) {
  disco_weights *model = NULL;
  assert_int_equal(dsc_model_open(path_of(name), &model), status);
  assert_null(model);
  expect_says(words);
  expect_says(folder);
}

static void files_by_content(void **state) {
  (void)state;
  /* The name says nothing. */
  put("it", safetensors);
  expect_opens("it", "safetensors", 0);
  put("it", one_tensor);
  expect_opens("it", "safetensors", 1);
  put("it", gguf);
  expect_opens("it", "gguf", 0);
  put("it", cache);
  expect_opens("it", "tensor-cache", 0);
  put("part.safetensors", one_tensor);
  put("it", stray_index);
  expect_opens("it", "safetensors", 1);
  put("part.safetensors", gguf);
  expect_opens("part.safetensors", "gguf", 0);
}

static void what_is_no_model(void **state) {
  (void)state;
  static const struct {
    content bytes;
    const char *words;
  } cases[] = {
      {CONTENT(""), "it is empty"},
      {CONTENT("hello, this is text"), "no file of weights that is known"},
      {CONTENT("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "git lfs pull"},
      {CONTENT("PK\x03\x04\0\0\0\0\0\0\0\0"), "ZIP"},
      {CONTENT("\x80\x02}q"), "pickle"},
      {CONTENT("{}"), "JSON with no weights"},
      {CONTENT("{\"weight_map\": {}, \"records\": []}"), "both \"weight_map\" and \"records\""},
      {CONTENT("{\"weight_map\""), "line 1"},
      {CONTENT("\x02\0\0\0\0\0\0\0{x"), "line 1"},
      {CONTENT("\x03\0\0\0\0\0\0\0{}"), "in a file of 10 bytes"},
      {CONTENT("GGU"), "no file of weights"},
      {CONTENT("GGUF"), "it"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    put("it", cases[i].bytes);
    expect_refused("it", DISCO_VALUE, cases[i].words);
  }
  (void)unlink(path_of("it"));
  expect_refused("it", DISCO_RUNTIME, "ENOENT");
  /* By its name it should be one: the reader says what is wrong. */
  put("z.safetensors", (content)CONTENT("\xff\xff\xff\xff\xff\xff\xff\xff{}"));
  expect_refused("z.safetensors", DISCO_VALUE, "a safetensors header of 18446744073709551615 bytes");
  put("z.safetensors", (content)CONTENT("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"));
  expect_refused("z.safetensors", DISCO_VALUE, "git lfs pull");
}

static void folders_by_what_lies_in_them(void **state) {
  (void)state;
  empty_folder();
  expect_refused("", DISCO_VALUE, "it has nothing of the kind");
  put("config.json", cache);
  put("params_0.bin", cache);
  expect_refused("", DISCO_VALUE, "has no weights");
  expect_says("\"config.json\"");
  expect_says("\"params_0.bin\"");
  put("ndarray-cache.json", cache);
  expect_opens("", "tensor-cache", 0);
  put("ndarray-cache.json", gguf); /* the newer name is read, not this one */
  put("tensor-cache.json", cache);
  expect_opens("", "tensor-cache", 0);
  put("model.safetensors", safetensors);
  expect_refused("", DISCO_VALUE, "more than one model");
  expect_says("\"tensor-cache.json\"");
  expect_says("\"model.safetensors\"");
  empty_folder();
  put("part.safetensors", one_tensor);
  expect_opens("", "safetensors", 1);
  put("z.safetensors", safetensors);
  expect_refused("", DISCO_VALUE, "more than one model");
  put("model.safetensors", safetensors);
  expect_opens("", "safetensors", 0);
  put("model.safetensors.index.json", stray_index);
  expect_opens("", "safetensors", 1);
  put("a.gguf", gguf);
  expect_refused("", DISCO_VALUE, "more than one model");
  empty_folder();
  put("a.gguf", gguf);
  expect_opens("", "gguf", 0);
  put("b.gguf", gguf);
  expect_refused("", DISCO_VALUE, "more than one model");
  expect_says("it has \"a.gguf\", \"b.gguf\"");
}

/* In order, whatever order the folder has; of many the first. */
static void a_folder_is_listed_in_order(void **state) {
  (void)state;
  static const char order[] = "qcxbmzapekdwnt"; /* 14 */
  char name[] = "?.bin";
  empty_folder();
  for (int i = 0; i < 14; i++) {
    name[0] = order[i];
    put(name, gguf);
  }
  put("config.json", cache);
  expect_refused("", DISCO_VALUE, "it has \"a.bin\", \"b.bin\", \"c.bin\", \"config.json\", \"d.bin\", \"e.bin\", ");
  expect_says("\"k.bin\", \"m.bin\", \"n.bin\", \"p.bin\", \"q.bin\", \"t.bin\", ... (15 in all)");
  for (int i = 0; i < 14; i++) {
    name[0] = order[i];
    assert_int_equal(unlink(path_of(name)), 0);
  }
}

/* Sentences about what stands in a file say which file that is. */
static void metadata_that_is_refused(void **state) {
  (void)state;
  empty_folder();
  static char json[5100], key[5000];
  memset(key, 'k', sizeof(key) - 1);
  static const char *const around[] = {"{\"weight_map\": {}, \"metadata\": {\"%s\": 1}}",
                                       "{\"records\": [], \"metadata\": {\"%s\": 1}}"};
  for (size_t i = 0; i < COUNT(around); i++) {
    (void)snprintf(json, sizeof(json), around[i], key);
    put("it", (content){json, strlen(json)});
    expect_refused("it", DISCO_VALUE, "/it: its name has 4999 bytes, the limit is 4096");
  }
  put("it",
      (content)CONTENT("{\"records\": [{\"dataPath\": \"part.safetensors\", \"format\": \"raw-shard\", \"nbytes\": "
                       "61, \"records\": [{\"name\": \"t\", \"shape\": [1], \"dtype\": \"int 8\", \"format\": "
                       "\"raw\", \"nbytes\": 1, \"byteOffset\": 0}]}]}"));
  put("part.safetensors", one_tensor);
  expect_refused("it", DISCO_VALUE, "/it: \"int 8/raw\" is no name of an encoding");
}

static void an_open_file_without_memory(void **state) {
  (void)state;
  static const content *const all[] = {&one_tensor, &stray_index, &cache, &gguf};
  empty_folder();
  put("part.safetensors", one_tensor);
  for (size_t i = 0; i < COUNT(all); i++) {
    disco_status status = DISCO_MEMORY;
    long n = 0;
    put("it", *all[i]);
    while (status != DISCO_OK) { /* descriptors and reads fail, too */
      disco_weights *model = NULL;
      (void)dsc_inject_fail_allocation(++n);
      status = dsc_model_open(path_of("it"), &model);
      (void)dsc_inject_fail_allocation(0);
      assert_true(status == DISCO_OK || status == DISCO_MEMORY || status == DISCO_RUNTIME);
      assert_int_equal(model != NULL, status == DISCO_OK);
      dsc_model_destroy(model);
    }
    assert_true(n > 3);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(files_by_content),
      cmocka_unit_test(what_is_no_model),
      cmocka_unit_test(folders_by_what_lies_in_them),
      cmocka_unit_test(a_folder_is_listed_in_order),
      cmocka_unit_test(metadata_that_is_refused),
      cmocka_unit_test(an_open_file_without_memory),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
