# SPDX-License-Identifier: GPL-3.0-or-later
# fuzz.mk - the fuzzers, a part of the Makefile: test/fuzz/README.org.

# Whole dialogues.  The linker hands the core's system calls to world.c.
DIALOGUE = world plan server rules judge drive drive-engine drive-session dialogue
WRAPPED = poll connect send recv clock_gettime fsync fdatasync pthread_create \
  pthread_join pthread_mutex_lock pthread_cond_wait pthread_cond_timedwait \
  pthread_cond_signal pthread_cond_broadcast

$(BUILD)/fuzz/%.o: test/fuzz/%.c $(BUILD)/config.mk
	@mkdir -p $(@D)
	$(call say,CC $<)
	$(Q)$(CC) $(SMN_CFLAGS) $(ASAN) -Itest/fuzz -c -o $@ $<
$(BUILD)/fuzz/dialogue: $(DIALOGUE:%=$(BUILD)/fuzz/%.o) \
    $(SUPPORT:%=$(BUILD)/asan/%.o) $(BUILD)/asan/libsmn.a
	$(call say,LD $@)
	$(Q)$(CC) -pthread $(ASAN) $(WRAPPED:%=-Wl,--wrap=%) -o $@ $^ $(LIBS)
-include $(wildcard $(BUILD)/fuzz/*.d)

fuzz-dialogue: $(BUILD)/fuzz/dialogue ## play N=10000 dialogues from SEED=1 on
	$< -n $(or $(N),10000) -s $(or $(SEED),1) $(if $(V),-v)

fuzz-proof: $(BUILD)/fuzz/dialogue ## see that planted faults are noticed
	$< -p

.PHONY: fuzz-dialogue fuzz-proof check-fuzz

# The targets of libFuzzer, and their corpora without it.
TARGETS = $(sort $(patsubst test/fuzz/fuzz-%.c,%,$(wildcard test/fuzz/fuzz-*.c)))
FUZZER = -fsanitize=fuzzer-no-link,address,undefined \
  -fno-sanitize-recover=undefined -fno-omit-frame-pointer -Wno-error

$(BUILD)/fuzz/replay-%.o: test/fuzz/fuzz-%.c $(BUILD)/config.mk
	@mkdir -p $(@D)
	$(call say,CC $<)
	$(Q)$(CC) $(SMN_CFLAGS) $(ASAN) -Itest/fuzz -DLLVMFuzzerTestOneInput=fuzz_$* \
	  -c -o $@ $<
$(BUILD)/fuzz/replay: $(BUILD)/fuzz/replay.o $(TARGETS:%=$(BUILD)/fuzz/replay-%.o) \
    $(BUILD)/asan/libsmn.a
	$(call say,LD $@)
	$(Q)$(CC) -pthread $(ASAN) -o $@ $^ $(LIBS)

# A short run of all that needs no clang, for make check.
FUZZ_LOGS = $(LOG)/fuzz-dialogue.log $(LOG)/fuzz-proof.log $(LOG)/fuzz-replay.log
$(LOG)/fuzz-dialogue.log: $(BUILD)/fuzz/dialogue FORCE
	@tools/run $@ $< -n 500
$(LOG)/fuzz-proof.log: $(BUILD)/fuzz/dialogue FORCE
	@tools/run $@ $< -p
$(LOG)/fuzz-replay.log: $(BUILD)/fuzz/replay FORCE
	@tools/run $@ $< test/fuzz/corpus
check-parts check-c check-asan check-fuzz: $(FUZZ_LOGS)
check-fuzz:
	@tools/summary $^

# By clang, each for TIME seconds; what it finds stays in build/fuzz/NAME, and a
# failure in build/fuzz/crash-*.
$(eval $(call variant,libfuzzer,$(FUZZER)))
$(BUILD)/libfuzzer/%: CC = clang
$(BUILD)/libfuzzer/fuzz-%: test/fuzz/fuzz-%.c $(BUILD)/libfuzzer/libsmn.a
	$(call say,LD $@)
	$(Q)$(CC) $(SMN_CFLAGS) $(FUZZER) -fsanitize=fuzzer -Itest/fuzz -o $@ $< \
	  $(BUILD)/libfuzzer/libsmn.a $(LIBS)
$(TARGETS:%=fuzz-%): fuzz-%: $(BUILD)/libfuzzer/fuzz-%
	@mkdir -p $(BUILD)/fuzz/$*
	@cd $(BUILD)/fuzz && $(CURDIR)/$< -max_total_time=$(or $(TIME),60) \
	  -max_len=4096 -timeout=10 -print_final_stats=1 $* \
	  $(CURDIR)/test/fuzz/corpus/$* >$*.log 2>&1 || { tail -n 60 $*.log; false; }
	@sed -n 's/^stat::number_of_executed_units: */$@: units /p' $(BUILD)/fuzz/$*.log
fuzz: $(TARGETS:%=fuzz-%) ## let clang's libFuzzer work on each target for TIME=60 seconds

.PHONY: fuzz $(TARGETS:%=fuzz-%)
