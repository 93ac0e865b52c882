# Fuzzing.  `make fuzz` runs every harness of tests/fuzz under libFuzzer, AddressSanitizer and UBSan (needs clang);
# `make fuzz-NAME` one of them; `make fuzz-afl` all under AFL++ (needs afl++).  What a build without clang needs is only
# tests/fuzz/replay_test.c, which is part of `make test`.
comma := ,
FUZZ := $(BUILD)/fuzz
FUZZ_SECONDS ?= 60
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_COMMON := tests/fuzz/common.c tests/fuzz/gguf_text.c tests/fuzz/memory.c
FUZZ_ENTRY := tests/fuzz/engine.c
FUZZ_FILES := map_file unmap_file read_file path_exists path_is_dir path_stays file_size file_crc list_dir
FUZZ_MEMORY := malloc calloc realloc free vec_grow huge_alloc huge_free classes_new bert_prepare
FUZZ_WRAP := $(patsubst %,-Wl$(comma)--wrap=dan_%,$(FUZZ_FILES) $(FUZZ_MEMORY))
FUZZ_EACH := -Wl$(comma)--wrap=LLVMFuzzerTestOneInput
# No kernels, no executor: what reads files, and what it needs to be used.
FUZZ_ROOMS := base core dtype graph op pass io text data nn model infer
# Empty: two to three times as fast, to find inputs; what it finds is then run with sanitizers (tests/fuzz/README.md).
FUZZ_SAN ?= address,undefined
FUZZ_OPT = -O2 -g1 -fno-omit-frame-pointer -fno-sanitize-recover=all
# Edges of readers guide the search; those of hash tables and strings only slow it down, and so do calls for each comparison of numbers
# (half of the time; those of memcmp and strcmp are seen without).
FUZZ_SEEN := -fno-sanitize-coverage=trace-cmp,stack-depth,indirect-calls -fsanitize-coverage-allowlist=tests/fuzz/seen.txt
fuzz_with = -fsanitize=$(1)$(if $(FUZZ_SAN),$(comma)$(FUZZ_SAN))
FUZZ_CLANG ?= clang

# $(1) folder, $(2) compiler, $(3) how it instruments
fuzz_lib = $(MAKE) --no-print-directory BUILD=$(1) CC=$(2) CONFIG=release 'OPT_release=$(FUZZ_OPT) $(3)' \
	'ROOMS=$(FUZZ_ROOMS)' ISAS= 'KINDS=dtype op pass model encoder_family sampler' $(1)/libdanlu.a

fuzz: $(FUZZ_NAMES:%=$(FUZZ)/fuzz_%) $(FUZZ)/seeds
	@sh tools/fuzz.sh $(FUZZ) $(FUZZ_SECONDS) $(FUZZ_NAMES)
$(FUZZ_NAMES:%=fuzz-%): fuzz-%: $(FUZZ)/fuzz_% $(FUZZ)/seeds
	@sh tools/fuzz.sh $(FUZZ) $(FUZZ_SECONDS) $*
fuzz-build: $(FUZZ_NAMES:%=$(FUZZ)/fuzz_%) $(FUZZ)/seeds
.PHONY: fuzz fuzz-build fuzz-lib fuzz-afl fuzz-regress $(FUZZ_NAMES:%=fuzz-%)

fuzz-lib:
	+@$(call fuzz_lib,$(FUZZ),$(FUZZ_CLANG),$(call fuzz_with,fuzzer-no-link) $(FUZZ_SEEN))

$(FUZZ)/libdanlu.a: fuzz-lib ;
$(FUZZ)/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ_COMMON) $(FUZZ_ENTRY) tests/fuzz/fuzz.h $(FUZZ)/libdanlu.a
	@echo "  fuzz  $*"
	@$(FUZZ_CLANG) $(STD) $(WARN) $(FUZZ_OPT) -Itests/fuzz $(call fuzz_with,fuzzer) $(FUZZ_SEEN) \
		$(FUZZ_WRAP) $(FUZZ_EACH) -o $@ $< $(FUZZ_COMMON) $(FUZZ_ENTRY) $(FUZZ)/libdanlu.a $(LIBS)

# Inputs that load, one folder a harness.
$(FUZZ)/make_seeds: tests/fuzz/make_seeds.c tests/fuzz/seeds.c tests/fuzz/fuzz.h $(FUZZ)/libdanlu.a
	@$(FUZZ_CLANG) $(STD) $(WARN) $(FUZZ_OPT) -Itests/fuzz $(if $(FUZZ_SAN),-fsanitize=$(FUZZ_SAN)) -o $@ $(filter %.c,$^) $(FUZZ)/libdanlu.a $(LIBS)
$(FUZZ)/seeds: $(FUZZ)/make_seeds
	@mkdir -p $@ && $< $@ $(FUZZ_NAMES) && touch $@

# AFL++ drives the same harnesses in one process each (its main is libFuzzer's interface).
AFL := $(BUILD)/fuzz-afl
afl-lib:
	+@AFL_QUIET=1 AFL_USE_ASAN=1 AFL_USE_UBSAN=1 $(call fuzz_lib,$(AFL),afl-clang-fast,-fsanitize=undefined)
.PHONY: afl-lib
$(AFL)/libdanlu.a: afl-lib ;
$(AFL)/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ_COMMON) $(FUZZ_ENTRY) tests/fuzz/fuzz.h $(AFL)/libdanlu.a
	@AFL_QUIET=1 AFL_USE_ASAN=1 AFL_USE_UBSAN=1 afl-clang-fast $(STD) $(WARN) $(FUZZ_OPT) -Itests/fuzz -fsanitize=fuzzer $(FUZZ_WRAP) \
		$(FUZZ_EACH) -o $@ $< $(FUZZ_COMMON) $(FUZZ_ENTRY) $(AFL)/libdanlu.a $(LIBS)
fuzz-afl: $(FUZZ_NAMES:%=$(AFL)/fuzz_%) $(FUZZ)/seeds
	@FUZZ_ENGINE=afl SEEDS=$(FUZZ)/seeds sh tools/fuzz.sh $(AFL) $(FUZZ_SECONDS) $(FUZZ_NAMES)

# Every harness over its seeds, damaged in every place, and over what once failed: no clang needed, part of `make test`.
REPLAY := $(BUILD)/test/tests/fuzz/replay_test
REPLAY_OBJ := $(patsubst %,$(BUILD)/fuzz-obj/%.o,$(FUZZ_NAMES:%=fuzz_%) common gguf_text memory seeds)
$(BUILD)/fuzz-obj/%.o: tests/fuzz/%.c tests/fuzz/fuzz.h
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -Itests/fuzz $(if $(filter fuzz_%,$*),-DLLVMFuzzerTestOneInput=$*) -MMD -MP -c -o $@ $<
$(REPLAY): tests/fuzz/replay_test.c $(REPLAY_OBJ) $(BUILD)/libdanlu.a
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -Itests/fuzz '-DFUZZ_LIST=$(patsubst %,FUZZ(%),$(FUZZ_NAMES))' $(FUZZ_WRAP) -o $@ $^ $(LIBS) -lcmocka
fuzz-regress: $(REPLAY)
	@$<
-include $(REPLAY_OBJ:.o=.d)

# Hostile and odd files (tests/hostile/README.md).
$(BUILD)/test/tests/hostile/hostile_test: tests/hostile/hostile_test.c tests/hostile/files.c tests/hostile/files.h $(BUILD)/libdanlu.a
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -Itests/hostile -o $@ $(filter %.c,$^) $(BUILD)/libdanlu.a $(LIBS) -lcmocka
