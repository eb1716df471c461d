# SPDX-License-Identifier: GPL-3.0-or-later
# Makefile - `make help' names the targets.
EMACS ?= emacs
CC ?= cc
BUILD ?= build
export EMACS CC

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
include $(BUILD)/config.mk # made anew by the rule below
endif

VERSION := $(shell sed -n 's/^;; Version: //p' smtpmail-native.el)
MODULE ?= smtpmail-native-module$(SUFFIX)
EL = smtpmail-native.el $(wildcard lisp/*.el)
TESTS_EL = $(wildcard test/*-tests.el)
GLUE = module lisp credentials
CORE = $(filter-out $(GLUE),$(basename $(notdir $(wildcard module/*.c))))
C_TESTS = $(basename $(notdir $(wildcard test/c/test-*.c)))
PEER = $(filter-out peer,$(basename $(notdir $(wildcard test/c/peer-*.c))))
SUPPORT = certs $(PEER)

WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  -Wconversion -Wno-sign-conversion -Werror
CFLAGS ?= -O2 -g
SMN_CFLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -fPIC \
  -fvisibility=hidden -pthread $(WARN) -DSMN_VERSION='"$(VERSION)"' \
  -Imodule -Itest/c -MMD -MP $(LIB_CFLAGS) $(CFLAGS)
ASAN = -fsanitize=address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer
TSAN = -fsanitize=thread
BATCH = $(EMACS) -Q --batch --eval '(setq load-prefer-newer t)' -L . -L lisp

all: module $(BUILD)/lisp.stamp ## build the module, byte-compile the Lisp

module: $(MODULE) ## build the module alone

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile | sed 's/: /	/'

$(BUILD)/config.mk: tools/configure
	@tools/configure $@

# One set of objects for each variant: plain, asan, tsan.
define variant
$(BUILD)/$(1)/%.o: module/%.c $(BUILD)/config.mk
	@mkdir -p $$(@D)
	$$(CC) $$(SMN_CFLAGS) $(2) $$(MODULE_CFLAGS) -c -o $$@ $$<
$(BUILD)/$(1)/%.o: test/c/%.c $(BUILD)/config.mk
	@mkdir -p $$(@D)
	$$(CC) $$(SMN_CFLAGS) $(2) -c -o $$@ $$<
$(BUILD)/$(1)/libsmn.a: $(CORE:%=$(BUILD)/$(1)/%.o)
	rm -f $$@ && ar rcs $$@ $$^
$(BUILD)/$(1)/test-%: $(BUILD)/$(1)/test-%.o $(SUPPORT:%=$(BUILD)/$(1)/%.o) \
    $(BUILD)/$(1)/libsmn.a
	$$(CC) -pthread $(2) -o $$@ $$^ $$(LIBS)
$(BUILD)/$(1)/peer: $(BUILD)/$(1)/peer.o $(SUPPORT:%=$(BUILD)/$(1)/%.o) \
    $(BUILD)/$(1)/libsmn.a
	$$(CC) -pthread $(2) -o $$@ $$^ $$(LIBS)
-include $$(wildcard $(BUILD)/$(1)/*.d)
endef
$(eval $(call variant,plain,))
$(eval $(call variant,asan,$(ASAN)))
$(eval $(call variant,tsan,$(TSAN)))
.PRECIOUS: $(BUILD)/%.o

# Overwriting a mapped module would crash the Emacs that uses it.
$(MODULE): $(GLUE:%=$(BUILD)/plain/%.o) $(BUILD)/plain/libsmn.a
	$(CC) -shared -pthread -o $@.new $^ $(LIBS)
	mv $@.new $@

$(BUILD)/lisp.stamp: $(EL) $(BUILD)/config.mk
	$(BATCH) --eval '(setq byte-compile-error-on-warn t)' \
	  -f batch-byte-compile $(EL)
	@touch $@

check: all check-c check-lisp ## run all tests
	@tools/summary build/log/*.log

check-c: $(C_TESTS:%=check-asan-%) $(C_TESTS:%=check-tsan-%)
check-asan-%: $(BUILD)/asan/%
	@tools/run $@ env ASAN_OPTIONS=detect_leaks=1 $< test/peer
check-tsan-%: $(BUILD)/tsan/%
	@tools/run $@ env TSAN_OPTIONS=halt_on_error=1 $< test/peer

check-lisp: $(TESTS_EL:test/%.el=check-ert-%) \
  $(TESTS_EL:test/%.el=check-assertions-%)
check-ert-%: test/%.el all $(BUILD)/plain/peer
	@tools/run $@ $(BATCH) -L test -l $< -f ert-run-tests-batch-and-exit
check-assertions-%: test/%.el all $(BUILD)/plain/peer
	@tools/run $@ $(BATCH) -module-assertions \
	  -L test -l $< -f ert-run-tests-batch-and-exit

lint: all ## check formatting and style
	@LINT=1 tools/configure $(BUILD)/lint.mk
	clang-format --dry-run -Werror module/*.[ch] test/c/*.[ch]
	cppcheck --quiet --enable=warning,portability,performance \
	  --error-exitcode=1 --inline-suppr --std=c11 module test/c
	$(BATCH) -l tools/checkdoc.el $(EL) $(TESTS_EL)
	tools/check-headers

demo: all $(BUILD)/plain/peer ## send a mail to the scripted server, show it
	$(BATCH) -L test -l test/demo.el

bench: all $(BUILD)/plain/peer ## measure
	$(BATCH) -L test -l test/bench.el

clean: ## remove all that was built
	rm -rf $(BUILD) smtpmail-native-module.* *.elc lisp/*.elc test/*.elc

.PHONY: all module help check check-c check-lisp lint demo bench clean
.SECONDARY:
