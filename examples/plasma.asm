; A plasma in mode 13h: 64,000 stores of a byte, none of which needs an exit of its own.
bits 16
org 0x7c00
    xor ax, ax
    mov ds, ax
    cld
    mov si, mode_13h
    call set_mode

    mov dx, 0x3c8               ; a palette of 256 colours, from blue over green to red
    xor ax, ax
    out dx, al
    inc dx
colour:
    mov bl, al
    shr al, 2                   ; red
    out dx, al
    mov al, bl
    xor al, 0x80
    jns .ascending
    not al
.ascending:
    shr al, 1                   ; green: most in the middle
    and al, 0x3f
    out dx, al
    mov al, bl
    not al
    shr al, 2                   ; blue
    out dx, al
    mov al, bl
    inc al
    jnz colour

    mov ax, 0xa000
    mov es, ax
    xor di, di
    xor bp, bp                  ; the row
row:
    xor bx, bx                  ; the column
column:
    mov ax, bp
    imul ax, bp
    mov cx, bx
    imul cx, bx
    add ax, cx                  ; the distance from the corner, squared,
    shr ax, 7
    mov cx, bx
    xor cx, bp                  ; and a pattern of squares
    shr cx, 2
    add al, cl
    stosb
    inc bx
    cmp bx, 320
    jb column
    inc bp
    cmp bp, 200
    jb row
    cli
    hlt

%include "vga.inc"

mode_13h:
    db 0x63
    db 0x03, 0x01, 0x0f, 0x00, 0x0e
    db 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00
    db 0x00, 0x00, 0x00, 0x9c, 0x0e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff
    db 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff
    db 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c
    db 0x0d, 0x0e, 0x0f, 0x41, 0x00, 0x0f, 0x00, 0x00

times 510 - ($ - $$) db 0
    dw 0xaa55
