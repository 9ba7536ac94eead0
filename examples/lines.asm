; Sixteen bars in mode 12h, four planes at once: a register write for each colour, then
; `rep stosb`. The register write is a port access, which exits and drains the ring.
bits 16
org 0x7c00
    xor ax, ax
    mov ds, ax
    cld
    mov si, mode_12h
    call set_mode

    mov dx, 0x3c8               ; sixteen grey levels; the attribute controller passes 0 to 15 on
    xor ax, ax
    out dx, al
    inc dx
grey:
    mov bl, al
    shl al, 2
    out dx, al
    out dx, al
    out dx, al
    mov al, bl
    inc al
    cmp al, 16
    jb grey

    mov dx, 0x3ce
    mov ax, 0x0f01              ; enable set/reset on all planes
    out dx, ax
    mov bx, 0xa000
    mov es, bx
    xor di, di
    xor ax, ax                  ; set/reset: the colour in AH
bar:
    out dx, ax
    mov cx, 30 * 80             ; 30 rows of 640 pixels
    rep stosb
    inc ah
    cmp ah, 16
    jb bar
    cli
    hlt

%include "vga.inc"

mode_12h:
    db 0xe3
    db 0x03, 0x01, 0x0f, 0x00, 0x06
    db 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00
    db 0x00, 0x00, 0x00, 0xea, 0x0c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff
    db 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff
    db 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c
    db 0x0d, 0x0e, 0x0f, 0x01, 0x00, 0x0f, 0x00, 0x00

times 510 - ($ - $$) db 0
    dw 0xaa55
