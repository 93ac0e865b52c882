# danlu: make help

CONFIG ?= release
ifeq ($(CONFIG),release)
BUILD ?= build
else
BUILD ?= build/$(CONFIG)
endif
PREFIX ?= /usr/local
VERSION := $(shell cat VERSION)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wno-unknown-pragmas
STD := -std=c11 -D_GNU_SOURCE -Isrc -Iinclude -DDANLU_VERSION='"$(VERSION)"'
OPT_release := -O2 -g
OPT_debug := -O0 -g3
OPT_asan := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan := -O1 -g1 -fsanitize=thread
OPT_scalar := -O2 -g1
ifdef WERROR
WARN += -Werror
endif
# -ffp-contract=off: an expression means the same on every machine; kernels use fma by name (R9)
# -fPIC: the tests share one library; the linker makes of it in danlu what it would have been without.
CFLAGS_ALL = $(STD) $(WARN) $(OPT_$(CONFIG)) -fPIC -fno-semantic-interposition -ffp-contract=off -fno-math-errno $(CFLAGS)
LIBS := -llapacke -ljansson -lutf8proc -lpcre2-8 -lsqlite3 -lm -lpthread
LDFLAGS_ALL = $(OPT_$(CONFIG)) $(LDFLAGS)

# Instruction sets are chosen at run time: each folder of src/kernel is compiled for its own.
# Sanitizers in loops that are unrolled take minutes to compile: no -O3 with them.
OPT_KERNEL := $(if $(filter asan tsan,$(CONFIG)),,-O3)
ISA_avx2 := $(OPT_KERNEL) -mavx2 -mfma -mf16c
ISA_avx512 := $(OPT_KERNEL) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mavx512vnni -mfma -mf16c
ISA_scalar := $(OPT_KERNEL)
ISA_amx := -mamx-tile -mamx-bf16 -mamx-int8
ifneq ($(CONFIG),scalar)
ifneq ($(filter x86_64 amd64,$(shell uname -m)),)
ISAS := avx2 avx512
endif
endif
ISAS := scalar $(ISAS)

ROOMS := base core dtype comm graph op pass exec io text data nn model train infer quant align api
SRC := $(foreach r,$(ROOMS),$(wildcard src/$(r)/*.c src/$(r)/*/*.c)) $(foreach i,$(ISAS),$(wildcard src/kernel/$(i)/*.c))
SRC := $(filter-out %_test.c,$(SRC))
CLI := $(filter-out %_test.c,$(wildcard src/cli/*.c))
OPS64 := $(shell grep -l '^DAN_OP\b' src/op/*.c)
KINDS := dtype op kernel probe pass model encoder_family optim schedule sampler pref_loss reward_kind
GEN := $(KINDS:%=$(BUILD)/gen/%_table.c)

OBJ := $(SRC:src/%.c=$(BUILD)/obj/%.o) $(OPS64:src/%.c=$(BUILD)/obj64/%.o) $(GEN:$(BUILD)/gen/%.c=$(BUILD)/obj/gen/%.o)
CLIOBJ := $(CLI:src/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/gen/cmd_table.o
TESTSRC := $(wildcard src/*/*_test.c src/*/*/*_test.c tests/*/*_test.c)
TESTS := $(TESTSRC:%.c=$(BUILD)/test/%)

.PHONY: all test run bench install help clean check tables FORCE
.PRECIOUS: $(BUILD)/gen/%_table.c
all: $(BUILD)/danlu

$(BUILD)/danlu: $(CLIOBJ) $(BUILD)/libdanlu.a
	@echo "  link  $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(CLIOBJ) $(BUILD)/libdanlu.a $(LIBS)

$(BUILD)/libdanlu.a: $(OBJ)
	@rm -f $@ && ar rcs $@ $(OBJ)

# The tables are made anew on every make (milliseconds) and rewritten only when they change.  +: also by make -n, which then knows what is old.
$(BUILD)/gen/%_table.c: FORCE
	+@mkdir -p $(@D) && sh tools/gen_tables.sh $* $@ src $(if $(filter kernel probe,$*),$(ISAS:%=src/kernel/%))
FORCE:

# Other flags make other objects.
flags_text = $(CC) $(CFLAGS_ALL) $(OPT_KERNEL) $(foreach i,$(ISAS) amx,$(i): $(ISA_$(i)))
$(BUILD)/flags: FORCE
	+@mkdir -p $(@D) && echo '$(subst ','"'"',$(flags_text))' > $@.new && if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
$(OBJ) $(CLIOBJ): $(BUILD)/flags

# Elementwise loops over every weight: vectorised, the same bits (no contraction, no reassociation).
# private: what these objects are made of, such as the text of flags, does not inherit it.
$(BUILD)/obj/dtype/%.o $(BUILD)/obj/train/optim%.o $(BUILD)/obj/train/step.o $(BUILD)/obj/infer/sampler.o $(BUILD)/obj/infer/sampler/%.o $(BUILD)/obj/quant/%.o: private CFLAGS += $(OPT_KERNEL)

isa = $(ISA_$(word 2,$(subst /, ,$(1)))) $(if $(findstring amx,$(1)),$(ISA_amx))
$(BUILD)/obj/kernel/%.o: src/kernel/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) $(call isa,kernel/$*) -MMD -MP -c -o $@ $<
$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(BUILD)/obj64/%.o: src/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -DDAN_REAL64 -MMD -MP -c -o $@ $<

# A hundred programs with all of danlu in each would be gigabytes and minutes of linking.
$(BUILD)/libdanlu_all.so: $(OBJ) $(CLIOBJ)
	@$(CC) $(LDFLAGS_ALL) -shared -o $@ $(filter-out %/cli/main.o,$^) $(LIBS)
$(BUILD)/test/%: %.c $(BUILD)/libdanlu_all.so
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -MMD -MP -MF $@.d -o $@ $< $(BUILD)/libdanlu_all.so -Wl,-rpath,$(abspath $(BUILD)) $(LIBS) -lcmocka

tests: $(TESTS) $(BUILD)/danlu

test: deps-test
	@$(MAKE) --no-print-directory $(all_cores) tests
	@BUILD=$(BUILD) sh tools/run_tests.sh $(TESTS)

deps-test:
	@sh tools/deps.sh test
deps-run:
	@sh tools/deps.sh run
.PHONY: tests deps-test deps-run

# Everything at once unless the caller said how many (-j).
all_cores = $(if $(findstring jobserver,$(MAKEFLAGS))$(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
run: deps-run
	@$(MAKE) --no-print-directory $(all_cores) all
	@BUILD=$(BUILD) DATA='$(DATA)' bash tools/run.sh

# What scripts in bench/ time directly: one program a file.
bench-tools: $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
.PHONY: bench-tools
$(BUILD)/bench/%: bench/%.c $(BUILD)/libdanlu.a
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(BUILD)/libdanlu.a $(LIBS)

bench: all
	@BUILD=$(BUILD) bash bench/run.sh

check: all
	@sh tools/check_layers $(BUILD)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BUILD)/danlu $(DESTDIR)$(PREFIX)/bin/danlu
	install -m 644 $(BUILD)/libdanlu.a $(DESTDIR)$(PREFIX)/lib/libdanlu.a
	install -m 644 include/danlu.h $(DESTDIR)$(PREFIX)/include/danlu.h

clean:
	rm -rf $(BUILD)

help:
	@echo "make            build/danlu (release)"
	@echo "make run        train a small LLaMA on real text, quantise it, let it talk (about 3 minutes)"
	@echo "                DATA=file-or-folder uses your own text"
	@echo "make test       all tests"
	@echo "make bench      comparisons with peers (bench/README.md)"
	@echo "make bench-tools programs that scripts in bench/ time"
	@echo "make check      layers, globals, sizes"
	@echo "make install    to PREFIX (default /usr/local)"
	@echo "CONFIG=debug|asan|tsan|scalar builds into build/CONFIG"

-include tests/fuzz/fuzz.mk
-include $(OBJ:.o=.d) $(CLIOBJ:.o=.d) $(TESTS:%=%.d)
